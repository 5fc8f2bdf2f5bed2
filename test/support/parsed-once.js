'use strict';
const vm = require('node:vm');
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

module.exports = TestEnvironment;
