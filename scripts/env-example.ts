import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { envExample } from '../workers/settings';

/** Writes `.env.example` from the settings; with `--check` only says whether it is up to date. */
const file = path.join(__dirname, '..', '.env.example');
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== envExample()) {
    process.stderr.write('.env.example is out of date: run `npm run env:example`\n');
    process.exit(1);
  }
} else {
  writeFileSync(file, envExample());
}
