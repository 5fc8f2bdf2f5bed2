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
  // On two cores: most of a test file's time is spent waiting for a server, and two workers left a third of the machine idle. Beyond three, tests
  // with bounds in real time begin to measure each other.
  maxWorkers: 3,
  testSequencer: '<rootDir>/test/support/longest-first.js',
  modulePathIgnorePatterns: ['<rootDir>/dist/'],
};
