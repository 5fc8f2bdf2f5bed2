import type { RecordRef } from '../contracts/action';

/**
 * Whether PostgreSQL can hold the names of a record: no NUL and no lone surrogate. One that it cannot hold was never
 * recorded, so nothing is lost by leaving it out, and a hostile id cannot make a settlement fail for ever.
 */
export function storable(record: RecordRef): boolean {
  return [record.system, record.id, record.account ?? ''].every((text) => storableText(text) === text);
}

/** The text with what PostgreSQL cannot hold, NUL and lone surrogates, replaced by U+FFFD: for words whose act must not fail by them. */
export function storableText(text: string): string {
  return text.replace(/\0|\p{Surrogate}/gu, '\uFFFD');
}
