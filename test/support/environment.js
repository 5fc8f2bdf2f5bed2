'use strict';
const vm = require('node:vm');
const { isNativeError } = require('node:util').types;
const { TestEnvironment } = require('jest-environment-node');

/**
 * jest evaluates every module anew for every test file, as it should; it also parses every module anew, which it need not, and
 * which was a third of what a file costs before its first test. A worker keeps V8's own cache of what it has parsed, by the code.
 */
const parsed = new Map();
const { compileFunction } = vm;

vm.compileFunction = (code, parameters, options) => {
  const cachedData = parsed.get(code);
  if (cachedData) return compileFunction(code, parameters, { ...options, cachedData });
  const compiled = compileFunction(code, parameters, { ...options, produceCachedData: true });
  if (compiled.cachedData) parsed.set(code, compiled.cachedData);
  return compiled;
};

const ordinary = Function.prototype[Symbol.hasInstance];

/**
 * A test file has globals of its own; Node's modules, and packages that Node itself loads (`native-packages.js`), have others. An error of
 * theirs is an error here too, as it is where the product runs.
 */
module.exports = class extends TestEnvironment {
  constructor(...args) {
    super(...args);
    const { Error } = this.global;
    Object.defineProperty(Error, Symbol.hasInstance, {
      value(error) {
        return ordinary.call(this, error) || (this === Error && isNativeError(error));
      },
    });
  }
};
