'use strict';
/**
 * Who may import whom: the layout's rules. Each has a deliberately wrong tree of its name under
 * test/fixtures/wrong-imports/, and a test that it is caught. `type-only` marks imports that leave nothing at run time.
 */

/** Own folders, apart from those named. */
const ownFoldersBut = (...allowed) =>
  `^(${[
    'contracts',
    'policy',
    'workflows',
    'activities',
    'storage',
    'secrets',
    'tools',
    'workers',
    'client',
    'examples',
    'bench',
    'scripts',
    'test',
  ]
    .filter((folder) => !allowed.includes(folder))
    .join('|')})/`;

/** Everything in node_modules, and Node's own modules, apart from the packages named (a pattern). */
const packagesBut = (...allowed) => `(^|/)node_modules/(?!(${allowed.join('|')})/)`;

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    {
      name: 'no-circles',
      comment: 'Two files that need each other are one idea in two places, or load in an order nobody chose.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'imports-resolve',
      comment: 'An import that leads nowhere is found here, not by the first user.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'contracts-stand-alone',
      comment: 'Everybody shares the wire truth, so it can need nobody of ours.',
      severity: 'error',
      from: { path: '^contracts/' },
      to: { path: ownFoldersBut('contracts') },
    },
    {
      name: 'contracts-need-only-zod',
      comment:
        'Contracts run in the workflow sandbox and in clients. digest.ts alone may hash; the sandbox never imports it.',
      severity: 'error',
      from: { path: '^contracts/', pathNot: '^contracts/digest\\.ts$' },
      to: { path: packagesBut('zod'), dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'contracts-do-no-io',
      comment:
        'Node’s own modules are input and output, and make the workflow bundle fail. digest.ts may hash.',
      severity: 'error',
      from: { path: '^contracts/', pathNot: '^contracts/digest\\.ts$' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'contracts-for-workflows-do-not-hash',
      comment: 'digest.ts needs node:crypto: what workflows reach among the contracts may not.',
      severity: 'error',
      from: {
        path: '^contracts/(ids|names|states|envelope|calls|refusal|failures|workflow-io|duration|scope)\\.ts$',
      },
      to: { path: '^contracts/(digest|scope-mint)\\.ts$', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'policy-is-pure',
      comment:
        'A decision depends on its documents and its question alone, so it can be replayed and backtested.',
      severity: 'error',
      from: { path: '^policy/' },
      to: { path: ownFoldersBut('contracts', 'policy') },
    },
    {
      name: 'workflows-stay-in-the-sandbox',
      comment:
        'Orchestration knows contracts alone: whatever else it reaches would have to be deterministic for ever.',
      severity: 'error',
      from: { path: '^workflows/' },
      to: { path: ownFoldersBut('contracts', 'workflows', 'policy') },
    },
    {
      name: 'workflows-never-import-policy',
      comment:
        'A rule edit must not change a replay. Not even a type: what a workflow knows of a decision is in contracts.',
      severity: 'error',
      from: { path: '^workflows/' },
      to: { path: '^policy/' },
    },
    {
      name: 'workflows-import-sandbox-safe-contracts',
      comment: 'These files need node:crypto or mint scopes: neither belongs where a replay runs.',
      severity: 'error',
      from: { path: '^workflows/' },
      to: { path: '^contracts/(digest|scope-mint)\\.ts$', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'workflows-need-only-temporal',
      comment: 'Packages that are not made for the sandbox break determinism where nobody looks.',
      severity: 'error',
      from: { path: '^workflows/' },
      to: { path: packagesBut('@temporalio/(workflow|common)'), dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'workflows-do-no-io',
      comment: 'The sandbox has no Node; an effect is an activity.',
      severity: 'error',
      from: { path: '^workflows/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'activities-use-ports',
      comment:
        'Effects reach storage, secrets and tools through the ports they are given, so that each can be replaced and none be bypassed.',
      severity: 'error',
      from: { path: '^activities/' },
      to: { path: ownFoldersBut('contracts', 'policy', 'activities') },
    },
    {
      name: 'storage-knows-contracts-alone',
      comment: 'The database’s side of a port: what it needs of others arrives as a value.',
      severity: 'error',
      from: { path: '^storage/' },
      to: { path: ownFoldersBut('contracts', 'storage') },
    },
    {
      name: 'secrets-know-contracts-alone',
      comment: 'The less the code that holds secrets reaches, the less can reach them.',
      severity: 'error',
      from: { path: '^secrets/' },
      to: { path: ownFoldersBut('contracts', 'secrets') },
    },
    {
      name: 'tools-know-contracts-alone',
      comment: 'What authors build on must not drag the platform in.',
      severity: 'error',
      from: { path: '^tools/' },
      to: { path: ownFoldersBut('contracts', 'tools') },
    },
    {
      name: 'clients-use-ports',
      comment: 'A client is given its storage; it neither runs activities nor composes workers.',
      severity: 'error',
      from: { path: '^client/' },
      to: { path: ownFoldersBut('contracts', 'policy', 'client') },
    },
    {
      name: 'examples-are-products',
      comment: 'An example shows what an author can do, so it may use only what an author has.',
      severity: 'error',
      from: { path: '^examples/' },
      to: { path: ownFoldersBut('contracts', 'tools', 'examples') },
    },
    {
      name: 'only-storage-talks-to-the-database',
      comment: 'Tenant scope is a property of storage’s handles: a query from elsewhere would have none.',
      severity: 'error',
      from: { pathNot: '^(storage|test|bench)/' },
      to: { path: '(^|/)node_modules/(@types/)?pg(-pool|-cursor)?/' },
    },
    {
      name: 'only-the-governed-client-leaves',
      comment:
        'Where tools and models may go is checked in one client; a socket from elsewhere would be checked by nobody.',
      severity: 'error',
      from: {
        path: '^(contracts|policy|workflows|activities|tools|secrets|examples/[^/]+/(actions|agents))/',
        pathNot: '^tools/(http|http-answer|at-write|guarded-agent|addresses)\\.ts$',
      },
      to: {
        path: '^(node:)?(https?|http2|net|tls|dgram|dns|dns/promises)$|(^|/)node_modules/(undici|axios|got|ws|node-fetch|socks|https?-proxy-agent)/',
      },
    },
    {
      name: 'scope-is-minted-by-verifiers',
      comment:
        'A scope is the proof that somebody verified it: an envelope, a token, Temporal’s own word for a control workflow or the sweep, an operator’s composition.',
      severity: 'error',
      from: {
        pathNot:
          '^(secrets/envelope[^/]*\\.ts|client/identity[^/]*\\.ts|workers/|activities/(control[^/]*|sweep|heads|envelope-interceptor)\\.ts|test/|bench/)',
      },
      to: { path: '^contracts/scope-mint\\.ts$' },
    },
    {
      name: 'products-do-not-import-tests',
      comment: 'Tests, benchmarks and scripts are not built or shipped with the product.',
      severity: 'error',
      from: { pathNot: '^(test|bench|scripts)/' },
      to: { path: '^(test|bench|scripts)/' },
    },
    {
      name: 'products-need-no-development-packages',
      comment: 'What runs must be installed where it runs.',
      severity: 'error',
      from: { pathNot: '^(test|bench|scripts)/|(^|/)[^/]+\\.config\\.js$|^\\.dependency-cruiser\\.js$' },
      to: {
        dependencyTypes: ['npm-dev'],
        dependencyTypesNot: ['type-only'],
        pathNot: '(^|/)node_modules/@types/',
      },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(dist|coverage|\\.bulkhead)/|^test/fixtures/wrong-imports/' },
    tsPreCompilationDeps: 'specify',
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['require', 'node', 'import', 'types', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.json', '.d.ts'],
    },
    reporterOptions: { text: { highlightFocused: true } },
  },
};
