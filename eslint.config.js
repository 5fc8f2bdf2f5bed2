'use strict';
const eslint = require('@eslint/js');
const tseslint = require('typescript-eslint');

const noEnvironment = {
  selector: "MemberExpression[object.name='process'][property.name='env']",
  message: 'Only workers/config.ts reads the environment: add a setting there.',
};

/** The ways out that are there without an import; of the others `.dependency-cruiser.js` takes care. */
const waysOut = ['fetch', 'WebSocket', 'EventSource', 'XMLHttpRequest'];
const useTheClient = 'Everything leaves by the governed client (tools/http.ts): use what the grant gives.';

module.exports = tseslint.config(
  { ignores: ['node_modules/', 'dist/', 'coverage/', '.bulkhead/', 'test/fixtures/wrong-imports/'] },
  {
    files: ['**/*.ts'],
    extends: [eslint.configs.recommended, ...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: __dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      // Numbers and booleans read well in a message; objects do not, and stay forbidden.
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true, allowNullish: true },
      ],
      // `type X = z.infer<typeof X>` beside `const X` is how one name is a schema and its type.
      'no-redeclare': 'off',
      // A port's implementation is async because the port is, whether or not this one waits.
      '@typescript-eslint/require-await': 'off',
      // Optional chaining on what types call certain is how values from outside are read with care.
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { ignoreRestSiblings: true }],
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-console': 'error',
      'no-restricted-syntax': ['error', noEnvironment],
      'no-empty': 'error',
    },
  },
  {
    files: ['{contracts,policy,workflows,activities,tools,secrets}/**', 'examples/*/{actions,agents}/**'],
    rules: {
      'no-restricted-globals': ['error', ...waysOut.map((name) => ({ name, message: useTheClient }))],
      'no-restricted-properties': [
        'error',
        ...['globalThis', 'global'].flatMap((object) =>
          waysOut.map((property) => ({ object, property, message: useTheClient })),
        ),
      ],
    },
  },
  {
    files: ['workers/config.ts', 'scripts/**', 'test/**', 'bench/**'],
    rules: { 'no-restricted-syntax': 'off' },
  },
  {
    // Processes of their own, that know none of Bulkhead's settings.
    files: ['examples/*/systems/**', 'examples/*/model/**'],
    rules: { 'no-restricted-syntax': 'off', 'no-console': 'off' },
  },
  {
    files: ['client/cli/**', 'workers/main.ts', 'scripts/**', 'bench/**'],
    rules: { 'no-console': 'off' },
  },
  {
    // Tests read answers of unknown form, and say so by asserting on them.
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
  {
    files: ['**/*.js'],
    extends: [eslint.configs.recommended],
    languageOptions: {
      sourceType: 'commonjs',
      globals: {
        require: 'readonly',
        module: 'writable',
        process: 'readonly',
        __dirname: 'readonly',
        console: 'readonly',
      },
    },
  },
);
