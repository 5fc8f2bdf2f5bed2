import { existsSync } from 'node:fs';
import path from 'node:path';

/** The package's root: the same for compiled code in `dist/` and for sources that a test runs. */
export const packageRoot: string = (() => {
  for (let directory = __dirname; ; directory = path.dirname(directory)) {
    if (existsSync(path.join(directory, 'package.json'))) return directory;
    if (path.dirname(directory) === directory)
      throw new Error('package.json is missing above the code: install Bulkhead whole');
  }
})();

/** Absolute path of a compiled module by its place in the sources, `workers/main`. Throws where it was not built. */
export function compiledModule(name: string): string {
  const file = path.join(packageRoot, 'dist', `${name}.js`);
  if (!existsSync(file)) throw new Error(`${file} is missing: run \`npm run build\``);
  return file;
}
