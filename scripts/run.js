'use strict';
// Runs a TypeScript file of this repository without a build: node scripts/run.js scripts/promises.ts [arguments]
const path = require('node:path');
const { transformFileSync } = require('@swc/core');

require.extensions['.ts'] = (module, file) => {
  const { code } = transformFileSync(file, {
    swcrc: false,
    sourceMaps: 'inline',
    jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
    module: { type: 'commonjs', ignoreDynamic: false },
  });
  module._compile(code, file);
};

const script = process.argv[2];
if (!script) {
  process.stderr.write('which script? node scripts/run.js <file.ts> [arguments]\n');
  process.exit(2);
}
process.argv.splice(1, 2, path.resolve(script));
require(path.resolve(script));
