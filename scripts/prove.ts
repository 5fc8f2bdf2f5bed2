import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { format } from 'prettier';
import { commitOf, machineOf, onTemporal } from './proof-ground';
import { PROOFS, type Proof } from './prove-table';

/**
 * Measures the promises at their full sizes and writes docs/proofs/<name>.json: seed, commit, machine, figures. Ends 1
 * where one does not hold; its file is written all the same, and says so.
 *
 * npm run prove [-- <name> …]
 */
const root = path.join(__dirname, '..');

async function main(): Promise<number> {
  const wanted = process.argv.slice(2);
  const unknown = wanted.filter((name) => !PROOFS.some((proof) => proof.name === name));
  if (unknown.length > 0) {
    const known = PROOFS.map(({ name, says }) => `  ${name}: ${says}\n`).join('');
    process.stderr.write(`npm run prove [-- <name> …]\n${known}`);
    return wanted.includes('--help') ? 0 : 2;
  }
  const commit = commitOf(root);
  let held = true;
  for (const proof of PROOFS) {
    if (wanted.length > 0 && !wanted.includes(proof.name)) continue;
    held = (await prove(proof, commit)) && held;
  }
  return held ? 0 : 1;
}

async function prove(row: Proof, commit: string): Promise<boolean> {
  const { name, promises, says, seed, options } = row;
  process.stderr.write(`${name}: ${says}\n`);
  const started = Date.now();
  const { proof, holds } = await onTemporal(async (temporal) => {
    const { holds, postgres, figures } = await row.run(temporal);
    const machine = await machineOf(temporal.address, postgres);
    const durationMs = Date.now() - started;
    const at = new Date(started).toISOString();
    return {
      holds,
      proof: { name, promises, says, holds, seed, commit, at, durationMs, machine, options, figures },
    };
  });
  const file = path.join(root, 'docs', 'proofs', `${name}.json`);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, await format(JSON.stringify(proof), { parser: 'json', printWidth: 110 }));
  process.stderr.write(`${name}: ${holds ? 'holds' : 'DOES NOT HOLD'}; ${path.relative(root, file)}\n`);
  return holds;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  },
);
