'use strict';
const { createRequire } = require('node:module');
const { transformFileSync } = require('@swc/core');
const { default: Runtime } = require('jest-runtime');
const swc = require('./swc');

/**
 * jest evaluates every module anew for every test file, so that no file meets what another one left in it. For a few large packages
 * of others that was half of what a file cost before its first test, and they keep nothing that a test could meet but the SDK's
 * runtime, which tests install by `sdk-runtime.ts`: each jest worker loads them once, by Node itself.
 */
const NATIVE = /^@(temporalio|cedar-policy)\//;

// The SDK loads the payload converter by its path.
require.extensions['.ts'] = (module, file) => {
  const { code } = transformFileSync(file, { ...swc, swcrc: false });
  module._compile(code, file);
};

module.exports = {
  __esModule: true,
  default: class extends Runtime {
    requireModuleOrMock(from, moduleName) {
      return NATIVE.test(moduleName)
        ? createRequire(from)(moduleName)
        : super.requireModuleOrMock(from, moduleName);
    }
  },
};
