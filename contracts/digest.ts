import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { Digest } from './ids';

/**
 * Canonical JSON (RFC 8785): the one text of a value, the same in every process and language.
 * Throws on what JSON cannot hold (`undefined`, functions, NaN, lone surrogates are rejected upstream by zod).
 */
export function canonicalJson(value: unknown): string {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError('this value has no JSON form');
  return text;
}

/** sha256 of the canonical JSON of a value, hex. */
export function digestOf(value: unknown): Digest {
  return createHash('sha256').update(canonicalJson(value), 'utf8').digest('hex') as Digest;
}

/**
 * sha256 over a tuple of strings, each prefixed by its length in bytes, so that no two tuples hash alike by
 * moving a separator (`a:b`,`c` against `a`,`b:c`). Hex.
 */
export function digestOfTuple(parts: readonly string[]): Digest {
  const hash = createHash('sha256');
  for (const part of parts) {
    const bytes = Buffer.from(part, 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    hash.update(length).update(bytes);
  }
  return hash.digest('hex') as Digest;
}

/**
 * The key that systems outside are given for a call, from its parts: what joins their logs with the journal. Of the root
 * run and the path in it alone, never of arguments or attempts (promise T2).
 */
export function outsideKey(tenantId: string, environment: string, rootRunId: string, path: string): string {
  return `bh-${digestOfTuple([tenantId, environment, rootRunId, path])}`;
}
