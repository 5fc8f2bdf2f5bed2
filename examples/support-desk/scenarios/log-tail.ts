import { existsSync, readFileSync, statSync } from 'node:fs';
import { effectFiles } from '../world';
import { EffectRow } from '../systems/store';

/**
 * New lines of the systems' logs as they come: each call answers what was written since the one before, reading no line
 * twice. Begins at the ends of the logs.
 */
export function tailEffects(stateDir: string): () => EffectRow[] {
  const read = new Map<string, number>();
  const sizeOf = (file: string): number => (existsSync(file) ? statSync(file).size : 0);
  const files = effectFiles(stateDir);
  for (const file of files) read.set(file, sizeOf(file));
  return () =>
    files.flatMap((file) => {
      const from = read.get(file) ?? 0;
      if (sizeOf(file) <= from) return [];
      const fresh = readFileSync(file).subarray(from);
      const whole = fresh.lastIndexOf(0x0a) + 1;
      read.set(file, from + whole);
      const lines = fresh.subarray(0, whole).toString('utf8').split('\n').filter(Boolean);
      return lines.map((line) => EffectRow.parse(JSON.parse(line)));
    });
}
