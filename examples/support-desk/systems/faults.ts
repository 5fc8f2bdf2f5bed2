import { z } from 'zod';

/** What a test can make a system do wrong. Counts go down with each use, so a fault ends by itself. */
export const Faults = z.strictObject({
  /** Answer this many milliseconds late. */
  slowMs: z.int().nonnegative().max(600_000).default(0),
  /** Answer 503 and do nothing. */
  down: z.boolean().default(false),
  /** The next n changes are applied and their connections cut before the answer. */
  dropReplies: z.int().nonnegative().default(0),
  /** The next n reads of a record answer another account's record. */
  foreignRecords: z.int().nonnegative().default(0),
  /** Only for callers of this account; `null` for everybody. */
  account: z.string().nullable().default(null),
});
export type Faults = z.infer<typeof Faults>;

export const NO_FAULTS: Faults = Faults.parse({});

/** The switches of a running system. */
export class FaultSwitches {
  #set: Faults = NO_FAULTS;

  set(faults: Faults): void {
    this.#set = faults;
  }

  get current(): Faults {
    return this.#set;
  }

  slowMs(account: string): number {
    return this.#concerns(account) ? this.#set.slowMs : 0;
  }

  down(account: string): boolean {
    return this.#concerns(account) && this.#set.down;
  }

  /** Uses one up. */
  takes(fault: 'dropReplies' | 'foreignRecords', account: string): boolean {
    if (!this.#concerns(account) || this.#set[fault] === 0) return false;
    this.#set = { ...this.#set, [fault]: this.#set[fault] - 1 };
    return true;
  }

  #concerns(account: string): boolean {
    return this.#set.account === null || this.#set.account === account;
  }
}
