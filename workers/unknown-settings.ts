import { PER_TENANT, SETTINGS } from './settings';

/**
 * A line for each `BULKHEAD_*` variable that does not exist, with the nearest one that does: a mistyped limit would
 * silently not hold.
 */
export function unknownVariables(names: string[]): string[] {
  const known = Object.keys(SETTINGS);
  return (
    names
      // BULKHEAD_TEST_ is how a test run tells its files what it shares.
      .filter(
        (name) =>
          name.startsWith('BULKHEAD_') &&
          !name.startsWith('BULKHEAD_TEST_') &&
          !known.includes(name) &&
          !PER_TENANT.some((own) => name.startsWith(`${own}__`)),
      )
      .map((name) => {
        const near = known
          .map((candidate) => ({ candidate, far: distance(name, candidate) }))
          .sort((a, b) => a.far - b.far)[0];
        const hint =
          near && near.far <= 4 ? `did you mean ${near.candidate}?` : 'see .env.example for those that exist';
        return `${name}: there is no such setting; ${hint}`;
      })
  );
}

/** Levenshtein's: edits of one character from one text to the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
