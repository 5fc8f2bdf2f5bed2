import type { CallAnswer } from '../contracts/calls';
import type { TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import { failure } from './failure';

/** What a call is told while its tenant's ledger is older than what its run knows: asked again until it is recovered. */
const REWOUND: Refusal = {
  kind: 'frozen',
  origin: 'platform',
  rule: 'ledger_rewound',
  rules: ['ledger_rewound'],
  message:
    'the ledger lost entries that this run has seen; an operator has to bring them back with `bulkhead recover`',
  retryAfterMs: 30_000,
};

/** Thrown below a call whose run was told of what the ledger does not hold: the tenant is fenced by then. */
export class LedgerRewound extends Error {
  override readonly name = 'LedgerRewound';
}

/**
 * What to throw where something that a run was told of is not in storage: a ledger that was restored from before it, which
 * fences the tenant (promise O8), or a defect of ours. `path` null stands for the run itself.
 */
export async function missing(
  store: TenantStore,
  lost: { runId: string; path: string | null; seq: number },
  message: string,
): Promise<Error> {
  return (await store.recovery.markLostCall(lost))
    ? new LedgerRewound(message)
    : failure('ContractBroken', message);
}

/** A governed call that answers "frozen" where the ledger was rewound below it, so that its run waits and does not fail. */
export const frozenWhileRewound =
  <Input extends { seq: number }, Value>(activity: (input: Input) => Promise<CallAnswer<Value>>) =>
  async (input: Input): Promise<CallAnswer<Value>> => {
    try {
      return await activity(input);
    } catch (error) {
      if (!(error instanceof LedgerRewound)) throw error;
      return { kind: REWOUND.kind, refusal: REWOUND, seq: input.seq };
    }
  };
