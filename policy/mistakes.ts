/** One thing wrong in a document: where, what, and what to do. Line and column count from 1. */
export interface Mistake {
  readonly line: number;
  readonly column: number;
  /** Of the value within its document: `rules[2].effect`. Empty for the document itself. */
  readonly path: string;
  readonly message: string;
  readonly remedy: string;
}

/** The last of a report that was cut at {@link MAX_MISTAKES}. A person mends the first hundred and asks again. */
export const MAX_MISTAKES = 100;

/** In order of place, without repeats, at most {@link MAX_MISTAKES} and a last one that says how many more there are. */
export function orderMistakes(mistakes: readonly Mistake[]): Mistake[] {
  const unique = new Map(mistakes.map((mistake) => [JSON.stringify(mistake), mistake]));
  const ordered = [...unique.values()].sort((a, b) => a.line - b.line || a.column - b.column);
  const cut = ordered.slice(0, MAX_MISTAKES);
  const last = cut.at(-1);
  if (ordered.length > cut.length && last) {
    const more = `${ordered.length - cut.length} more mistakes are not shown`;
    cut.push({ ...last, path: '', message: more, remedy: 'mend these first, then ask again' });
  }
  return cut;
}

/**
 * Mistakes as text for a terminal, one line each and its remedy under it: `acme.yaml:4:11  rules[0].effect: …`.
 * Names and values from the document are quoted and cut when a mistake is made, so this text holds no control
 * characters of theirs.
 */
export function formatMistakes(mistakes: readonly Mistake[], fileName: string): string {
  const lines = mistakes.map(({ line, column, path, message, remedy }) => {
    const where = path === '' ? '' : `${path}: `;
    return `${printable(fileName)}:${line}:${column}  ${where}${message}\n    ${remedy}`;
  });
  const count = mistakes.length === 1 ? '1 mistake' : `${mistakes.length} mistakes`;
  return [...lines, count].join('\n');
}

const QUOTED_LENGTH = 60;

/** A name or value of a document as it may be shown: cut, quoted, and without control or direction characters. */
export function quote(value: unknown): string {
  const text = typeof value === 'string' ? value : String(value);
  return `"${printable(text.length > QUOTED_LENGTH ? `${text.slice(0, QUOTED_LENGTH)}…` : text)}"`;
}

/** Escapes what a terminal would obey or a reader could not see: C0, C1, bidirectional marks, lone surrogates. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}"\\]/gu, (character) =>
    character === '"' || character === '\\'
      ? `\\${character}`
      : `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** `rules[2].effect` of a path; keys that are no plain word are quoted. */
export function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      const name = String(part);
      if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/.test(name)) return `[${quote(name)}]`;
      return index === 0 ? name : `.${name}`;
    })
    .join('');
}

/** The candidate that a mistyped name most likely meant, or `undefined` where none is near. */
export function closest(name: string, candidates: Iterable<string>): string | undefined {
  // Longer than any name there is: comparing is quadratic and such a name was no slip of the hand.
  if (name.length > 100) return undefined;
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of candidates) {
    // Two letters swapped are two edits, also in a short word.
    const near = candidate.length < 4 ? 1 : Math.max(2, Math.floor(candidate.length / 3));
    if (Math.abs(candidate.length - name.length) > near) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance <= near && distance < (best?.distance ?? Infinity)) {
      best = { candidate, distance };
    }
  }
  return best?.candidate;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, replaced));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
