'use strict';
// Last step of the build: bundles the compiled workflows once, so that no worker spends seconds on it at its start.
const { writeFileSync } = require('node:fs');
const { bundleWorkflows, builtBundlePath } = require('../dist/workers/workflow-bundle');

bundleWorkflows().then(
  ({ code }) => writeFileSync(builtBundlePath, code),
  (error) => {
    process.stderr.write(`the workflows could not be bundled: ${error.message}\n`);
    process.exit(1);
  },
);
