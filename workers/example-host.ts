import type { Example } from '../tools/example';
import { inheritedEnvironment } from './config';
import type { Children } from './children';
import { compiledModule } from './package-paths';

/** Loads a compiled example by its name. Throws with the names there are where it does not exist or exports none. */
export async function loadExample(name: string): Promise<Example> {
  if (!/^[a-z][a-z0-9-]{0,63}$/.test(name))
    throw new Error(`"${name}" is no example’s name: write it as its directory is called`);
  const file = compiledModule(`examples/${name}/example`);
  const loaded = (await import(file)) as { example?: Example; default?: { example?: Example } };
  const example = loaded.example ?? loaded.default?.example;
  if (!example) throw new Error(`${file} exports no \`example\``);
  return example;
}

/** How a process of the example is called among the stack's children. */
export const systemName = (name: string): string => `system-${name}`;

/** Starts a system of an example: a process that knows none of our settings, and says its address when it listens. */
export async function spawnSystem(
  children: Children,
  name: string,
  modulePath: string,
  env: Record<string, string>,
): Promise<{ pid: number; url: string }> {
  const { pid, ready } = await children.start({
    name: systemName(name),
    module: modulePath,
    env: { ...inheritedEnvironment('program'), ...env },
    ready: urlOf,
    restart: false,
    readyWithinMs: 30_000,
  });
  return { pid, url: ready };
}

function urlOf(line: string): string | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const { url } = JSON.parse(line) as { url?: unknown };
    return typeof url === 'string' && URL.canParse(url) ? url : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
