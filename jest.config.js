'use strict';
const { availableParallelism } = require('node:os');

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: '<rootDir>/test/support/parsed-once.js',
  roots: ['<rootDir>/test'],
  testMatch: ['**/*.test.ts'],
  transform: {
    '^.+\\.(ts|js|mjs)$': [
      '@swc/jest',
      {
        jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
        module: { type: 'commonjs' },
        sourceMaps: 'inline',
      },
    ],
  },
  // Published as ES modules only.
  transformIgnorePatterns: [
    '/node_modules/(?!(jose|@modelcontextprotocol|eventsource-parser|pkce-challenge)/)',
  ],
  globalSetup: '<rootDir>/test/support/global-setup.ts',
  globalTeardown: '<rootDir>/test/support/global-teardown.ts',
  testTimeout: 60_000,
  // Two on two cores: with more of them, tests with bounds in real time measure each other. Temporal and PostgreSQL take their part.
  maxWorkers: Math.max(2, Math.round(availableParallelism() * 0.75)),
  testSequencer: '<rootDir>/test/support/longest-first.js',
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
};
