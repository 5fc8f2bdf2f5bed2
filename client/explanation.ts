import { z } from 'zod';
import { APPROVAL_RULES, type ApprovalRow } from '../contracts/approvals';
import type { TenantStore } from '../contracts/ports';
import type { LastRefusal, RunRow, StandingInLine } from '../contracts/rows';
import { Refusal } from '../contracts/refusal';
import type { ReviewRow } from '../contracts/reviews';
import { RUN_STATES, STOP_REASONS, type RunState, type StopReason } from '../contracts/states';
import { askedBy } from './approvals';
import { waitingForPeople } from './beside';
import { reachDatabase } from './errors';
import { refusalsOf } from './journal';

/** Where a run stands and why. Times are ISO, of the database's clock. */
export interface Explanation {
  readonly runId: string;
  readonly state: RunState;
  readonly stopReason: StopReason | null;
  /** The state, or the stop reason, in words. */
  readonly means: string;
  readonly since: string;
  /** What it waits for: the refusal that binds, with limit, value, use and when it frees; `null` where it waits for none. */
  readonly waitsFor: Refusal | null;
  /** When the limit that it waits for frees, if nothing more is used; `null` where no time is known. */
  readonly freesAt: string | null;
  /** Of `queued`: where it stands in line for a slot of its tenant, 1 being next, and how many stand there. */
  readonly queue: { readonly position: number; readonly waiting: number } | null;
  /** Of `approval_required`: when the request expires, and the run ends for it. */
  readonly until: string | null;
  /** Open requests for approval of its calls, the newest first: a person has to decide. */
  readonly approvals: readonly ApprovalRow[];
  /** Open reviews of its calls, the newest first: a person has to look. */
  readonly reviews: readonly ReviewRow[];
  /** The last time something was refused to it, whatever became of that. */
  readonly lastRefusal: LastRefusal | null;
}

/** The answer of a run's query `runState`, as far as it is used here. */
export const Live = z.object({
  state: z.enum(Object.keys(RUN_STATES) as [RunState, ...RunState[]]),
  detail: z.string(),
  since: z.string(),
  approvalNo: z.number().nullish(),
  refusal: Refusal.nullish(),
});
export type Live = z.infer<typeof Live>;

/** States in which a refusal is what the run waits for. */
const WAITING: ReadonlySet<RunState> = new Set([
  'throttled',
  'approval_required',
  'review_required',
  'provider_degraded',
  'frozen',
]);

/**
 * Explains a run from what the database has of it; what its workflow says of itself adds the words, and what no ledger
 * knows. Throws `unavailable` where the database is away.
 */
export async function explained(
  store: TenantStore,
  told: RunRow,
  live: Live | undefined,
): Promise<Explanation> {
  const { runId } = told;
  // It went into line between the two reads: its place is in a newer row.
  const stale = live?.state === 'queued' && told.queuedSince === null;
  const row = (stale && (await reachDatabase(() => store.run(runId)))) || told;
  const standing =
    row.queuedSince === null ? undefined : await reachDatabase(() => store.standingInLine(runId));
  const state = standing ? 'queued' : (live?.state ?? row.state);
  const lastRefusal = await lastRefused(store, row);
  const { approvals, reviews } = await waitingForPeople(store, runId);
  const waits = WAITING.has(state) && lastRefusal !== null;
  const approval =
    state === 'approval_required'
      ? (approvals.find(({ approvalNo }) => approvalNo === live?.approvalNo) ?? approvals[0])
      : undefined;
  // The refusal that a person has to answer is that of the request or review: others may have come since.
  const asked = state === 'review_required' ? reviews[0]?.refusal : approval && askedBy(approval);
  const bindsNow = standing ? slotsTaken(standing) : asked;
  // A lane without a worker is no limit: the run alone knows of it.
  const waitsFor = bindsNow ?? live?.refusal ?? (waits ? lastRefusal.refusal : null);
  const frees = waits && waitsFor === lastRefusal.refusal ? freesAt(lastRefusal) : null;
  return {
    runId,
    state,
    stopReason: row.stopReason,
    means:
      row.stopReason !== null
        ? STOP_REASONS[row.stopReason].means
        : (standing && inLine(standing)) || (live?.detail ?? RUN_STATES[state]),
    since:
      row.closedAt ??
      (standing && row.queuedSince) ??
      // The workflow enters the wait anew at each look.
      approval?.requestedAt ??
      (row.state === state ? row.stateSince : (live?.since ?? row.stateSince)),
    waitsFor,
    freesAt: frees,
    queue: standing ? { position: standing.position, waiting: standing.waiting } : null,
    until: approval?.expiresAt ?? null,
    approvals,
    reviews,
    lastRefusal,
  };
}

const DECIDED: ReadonlySet<string> = new Set(Object.values(APPROVAL_RULES));

/** The journal also has failures of calls; the row has what was not journaled one by one, and when it frees. */
async function lastRefused(store: TenantStore, row: RunRow): Promise<LastRefusal | null> {
  const journaled = (await reachDatabase(() => refusalsOf(store, row.runId))).at(-1) ?? null;
  // A refusal of the moment between the two reads is in the journal alone, which does not say when it frees.
  const behind = journaled && !(row.lastRefusal && row.lastRefusal.at >= journaled.at);
  const { lastRefusal } = (behind && (await reachDatabase(() => store.run(row.runId)))) || row;
  if (!lastRefusal || (journaled && journaled.at > lastRefusal.at)) return journaled;
  // Of what a person has decided only the journal's reader has the words of the stop reason.
  const words = journaled?.at === lastRefusal.at && DECIDED.has(journaled.refusal.rule);
  return words ? journaled : lastRefusal;
}

const inLine = ({ position, waiting, value, used }: StandingInLine): string =>
  `waits for a slot of its tenant: position ${position} of ${waiting}; ${used} of ${value ?? 'any number of'} concurrent runs`;

const slotsTaken = (standing: StandingInLine): Refusal => ({
  kind: 'throttled',
  origin: 'tenant_cap',
  rule: 'concurrent_runs',
  rules: ['concurrent_runs'],
  message: `all slots of this tenant are taken; position ${standing.position} of ${standing.waiting} in line`,
  ...(standing.value !== null && { value: standing.value }),
  used: standing.used,
});

function freesAt({ at, refusal }: LastRefusal): string | null {
  return refusal.retryAfterMs === undefined
    ? null
    : new Date(Date.parse(at) + refusal.retryAfterMs).toISOString();
}
