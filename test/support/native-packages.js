'use strict';
const { createRequire, isBuiltin } = require('node:module');
const { transformFileSync } = require('@swc/core');
const { default: Runtime } = require('jest-runtime');
const swc = require('./swc');

/**
 * jest evaluates every module anew for every test file, so that no file meets what another one left in it. For the packages of
 * others that was more than half of what a file cost before its first test, and they keep nothing that a test could meet but the
 * SDK's runtime, which tests install by `sdk-runtime.ts`: each jest worker loads them once, by Node itself. Our own modules, and
 * jest's, are each file's.
 */
const OWN = /^([./]|node:|@jest\/|jest|expect)/;

// The SDK loads the payload converter by its path.
require.extensions['.ts'] = (module, file) => {
  const { code } = transformFileSync(file, { ...swc, swcrc: false });
  module._compile(code, file);
};

module.exports = {
  __esModule: true,
  default: class extends Runtime {
    requireModuleOrMock(from, moduleName) {
      return OWN.test(moduleName) || isBuiltin(moduleName)
        ? super.requireModuleOrMock(from, moduleName)
        : createRequire(from)(moduleName);
    }
  },
};
