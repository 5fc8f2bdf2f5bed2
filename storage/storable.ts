import type { RecordRef } from '../contracts/action';

/**
 * Whether PostgreSQL can hold the names of a record: no NUL and no lone surrogate. One that it cannot hold was never
 * recorded, so nothing is lost by leaving it out, and a hostile id cannot make a settlement fail for ever.
 */
export function storable(record: RecordRef): boolean {
  return ![record.system, record.id, record.account ?? ''].some((text) => /\0|\p{Surrogate}/u.test(text));
}
