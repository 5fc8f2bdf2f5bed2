import { canonicalJson } from '../contracts/digest';
import { BulkheadError } from './errors';

/** Larger inputs belong into the tenant's storage, with a reference in the input. */
const MAX_BYTES = 1_048_576;
/** Deeper than any form people fill in, and shallow enough for every recursive reader behind us. */
const MAX_DEPTH = 64;
/** Half a character: it has no UTF-8, so two of them would be stored and digested alike. */
const LONE_SURROGATE = /\p{Surrogate}/u;
/** What no text of PostgreSQL holds. */
const NUL = '\0';

/**
 * Requires plain JSON within bounds: no dates, maps, functions, cycles, NaN, lone surrogates or `__proto__`, so that
 * what is stored, digested and shown to an agent is what the caller sent. Throws a {@link BulkheadError} `invalid`.
 */
export function requireBoundedJson(value: unknown, name: string): void {
  const wrong = (what: string): BulkheadError => new BulkheadError('invalid', `${name} ${what}`);
  const open: { value: unknown; depth: number }[] = [{ value, depth: 0 }];
  let seen = 0;
  for (let at = open.pop(); at; at = open.pop()) {
    seen += 1;
    if (at.depth > MAX_DEPTH) throw wrong(`is nested deeper than ${MAX_DEPTH} levels: flatten it`);
    if (seen > MAX_BYTES)
      throw wrong('has too many parts: store it in the tenant’s own place and give a reference');
    if (!isPlain(at.value))
      throw wrong('is not JSON: give objects, arrays, strings, finite numbers, booleans and null');
    if (typeof at.value !== 'object' || at.value === null) continue;
    if (Object.hasOwn(at.value, '__proto__')) throw wrong('has a field __proto__: rename it');
    for (const [key, child] of Object.entries(at.value)) {
      if (LONE_SURROGATE.test(key)) throw wrong('has a field name that is not well-formed Unicode');
      open.push({ value: child, depth: at.depth + 1 });
    }
  }
  const bytes = Buffer.byteLength(canonicalJson(value), 'utf8');
  if (bytes > MAX_BYTES)
    throw wrong(
      `has ${bytes} bytes and may have ${MAX_BYTES}: store it in the tenant’s own place and give a reference`,
    );
}

/** Whether PostgreSQL can hold it as text, and not inside of JSON: no NUL, no lone surrogates. */
export const isStorableText = (text: string): boolean => !text.includes(NUL) && !LONE_SURROGATE.test(text);

/** Throws `invalid` for text that {@link isStorableText} refuses. */
export function requireStorableText(text: string, name: string): void {
  if (!isStorableText(text))
    throw new BulkheadError(
      'invalid',
      `${name} has a character that cannot be stored: leave out NUL and half characters`,
    );
}

function isPlain(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value === 'string') return !LONE_SURROGATE.test(value);
  if (value === null || typeof value === 'boolean') return true;
  if (typeof value !== 'object') return false;
  if (Array.isArray(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
