/** Nested deeper than this is nobody's: canonical JSON is made by recursion, which ends at some 2,500. */
export const MAX_JSON_DEPTH = 500;

/**
 * Values in one answer, or in the arguments of one call: objects, arrays and what is in them, each counting one. A schema reports
 * every value that it does not like, and what it reports takes a hundred times the value; while it does, a host serves nobody.
 */
export const MAX_JSON_VALUES = 20_000;

/**
 * Why a value is too large in shape to be held against a schema, in the words that follow "answered"; `undefined` where it is not. Looks at no
 * more of it than it may have, so that the look itself costs little, and a value that holds itself is too deep.
 */
export function overgrown(value: unknown): string | undefined {
  const open: { value: unknown; depth: number }[] = [{ value, depth: 1 }];
  let seen = 0;
  for (let at = open.pop(); at; at = open.pop()) {
    seen += 1;
    if (typeof at.value !== 'object' || at.value === null || ArrayBuffer.isView(at.value)) continue;
    if (at.depth > MAX_JSON_DEPTH) return `something nested deeper than ${MAX_JSON_DEPTH} levels`;
    const children = Array.isArray(at.value) ? (at.value as unknown[]) : Object.values(at.value);
    if (seen + open.length + children.length > MAX_JSON_VALUES) return `more than ${MAX_JSON_VALUES} values`;
    for (const child of children) open.push({ value: child, depth: at.depth + 1 });
  }
  return undefined;
}

/** Whether it holds a number that JSON has no form for, as `1e400` is read. Only for what is not {@link overgrown}. */
export function holdsNoNumber(value: unknown): boolean {
  if (typeof value === 'number') return !Number.isFinite(value);
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return false;
  return Object.values(value).some(holdsNoNumber);
}
