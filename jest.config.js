'use strict';
const { availableParallelism } = require('node:os');
const swc = require('./test/support/swc');

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: '<rootDir>/test/support/environment.js',
  runtime: '<rootDir>/test/support/native-packages.js',
  roots: ['<rootDir>/test'],
  testMatch: ['**/*.test.ts'],
  transform: {
    '^.+\\.(ts|js|mjs)$': ['@swc/jest', swc],
  },
  // Published as ES modules only.
  transformIgnorePatterns: [
    '/node_modules/(?!(jose|@modelcontextprotocol|eventsource-parser|pkce-challenge)/)',
  ],
  globalSetup: '<rootDir>/test/support/global-setup.ts',
  globalTeardown: '<rootDir>/test/support/global-teardown.ts',
  testTimeout: 60_000,
  // On a machine whose processors are slow or taken, three on two cores starve those with bounds in real time.
  maxWorkers: Math.max(2, Math.round(availableParallelism() * 0.75)),
  // What test files leave behind adds up.
  workerIdleMemoryLimit: '1500MB',
  testSequencer: '<rootDir>/test/support/longest-first.js',
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
};
