import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { undoPath } from '../contracts/calls';
import type { SignedEnvelope } from '../contracts/envelope';
import { RunId } from '../contracts/ids';
import type { CallRow, RunRow } from '../contracts/rows';
import type { FollowUp } from '../contracts/reviews';
import { waitingForPeople, type WaitingForPeople } from './beside';
import { actorOf, noteOf, unknownRun, type Caller } from './caller';
import { BulkheadError, reachDatabase } from './errors';
import { journalEntries } from './journal';
import { startFollowUp } from './start';
import { isTemporalTrouble, temporalTroubleIn } from './temporal-trouble';
import { deadlineIn } from './timeout';

const START_DEADLINE_MS = 5_000;
const LOOK_EVERY_MS = 500;

/** One write of a run, and what an undo has made of it. */
export interface UndoneCall {
  readonly path: string;
  readonly action: string;
  /** `undone` · `left` as it is, since it cannot be undone or nobody has yet · `waits` for a review · `given_up` in one. */
  readonly became: 'undone' | 'left' | 'waits' | 'given_up';
  readonly reversible: CallRow['reversible'];
  /** Whether there is a way to undo it: what is `left` and has one, an undo that is ordered again undoes. `null`: only the app could say. */
  readonly undoable: boolean | null;
}

/** How far a follow-up is, and what of its run it may wait for. */
export interface FollowUpProgress extends WaitingForPeople {
  readonly followUp: FollowUp;
}

/** Work on a closed run that was ordered: undoing its writes, or one call again. It goes on whether it is watched or not. */
export class OrderedFollowUp {
  constructor(
    private readonly caller: Caller,
    private readonly row: RunRow,
    /** As it was ordered. */
    readonly order: FollowUp,
    /** It had been ordered before, and is not done. */
    readonly existing: boolean,
    /** `null`, or that Temporal could not be reached and who starts it. */
    readonly notice: string | null,
  ) {}

  get runId(): string {
    return this.row.runId;
  }

  async progress(): Promise<FollowUpProgress> {
    const { store } = this.caller;
    const runId = this.row.runId;
    const [followUps, waiting] = await Promise.all([
      reachDatabase(() => store.followUps(runId)),
      waitingForPeople(store, runId),
    ]);
    const followUp = followUps.find(({ followUpNo }) => followUpNo === this.order.followUpNo) ?? this.order;
    return { followUp, ...waiting };
  }

  /**
   * Resolves once it is done. `onProgress` is called at each look. Throws `timeout` after `timeoutMs`, and says what it
   * waits for: the work itself goes on.
   */
  async result(
    options: {
      timeoutMs?: number;
      signal?: AbortSignal;
      onProgress?: (progress: FollowUpProgress) => void | Promise<void>;
    } = {},
  ): Promise<FollowUp> {
    const { timeoutMs, signal, onProgress } = options;
    const deadline = deadlineIn(timeoutMs);
    for (;;) {
      const progress = await this.progress();
      await onProgress?.(progress);
      if (progress.followUp.state === 'done') return progress.followUp;
      if (Date.now() >= deadline) {
        const waits = [
          ...progress.reviews.map(({ reviewNo }) => `review ${reviewNo}`),
          ...progress.approvals.map(({ approvalNo }) => `approval ${approvalNo}`),
        ].join(', ');
        throw new BulkheadError(
          'timeout',
          `the ${this.order.kind} of run ${this.runId} goes on${waits ? `; it may wait for ${waits}, see \`bulkhead review show\` and \`bulkhead approval show\`` : ''}: ask again, or \`bulkhead run show ${this.runId}\``,
        );
      }
      await sleep(LOOK_EVERY_MS, undefined, signal && { signal });
    }
  }

  /** The writes of the run, the newest first, and what became of each; by the ledger, not by who watched. */
  async calls(): Promise<UndoneCall[]> {
    return writesOf(this.caller, this.row);
  }

  /** Of a retry: the call as the ledger has it now. */
  async call(): Promise<CallRow | undefined> {
    const { path } = this.order;
    return path === null ? undefined : reachDatabase(() => this.caller.store.call(this.row.runId, path));
  }
}

/**
 * Orders that the writes of a closed run are undone, in reverse order, and starts it. An undo of it that is not done is
 * the same order. Throws `conflict` for a run that is open (`run_open`) or has nothing to undo (`nothing_to_undo`).
 */
export async function orderRollback(
  caller: Caller,
  row: RunRow,
  request: { note?: string; actor?: string },
): Promise<OrderedFollowUp> {
  const actor = actorOf(caller, request.actor);
  const note = noteOf(request.note, { needed: false });
  const ordered = await reachDatabase(() => caller.store.orderUndo({ runId: row.runId, actor, note }));
  switch (ordered.kind) {
    case 'open':
      throw new BulkheadError(
        'conflict',
        `run ${row.runId} is still open: cancel it first (\`bulkhead run cancel ${row.runId} --reason …\`), wait until it is closed, and roll it back then`,
        { reason: 'run_open' },
      );
    case 'nothing':
      throw new BulkheadError(
        'conflict',
        `run ${row.runId} has nothing to undo: no write of it succeeded, or may have, that is not undone already`,
        { reason: 'nothing_to_undo' },
      );
    case 'absent':
      throw unknownRun();
    case 'ordered':
    case 'already':
      return begun(caller, row, ordered);
  }
}

/** Starts what was ordered. With Temporal away the order stands, and the sweep starts it. */
export async function begun(
  caller: Caller,
  row: RunRow,
  ordered: {
    readonly kind: 'ordered' | 'already';
    readonly followUp: FollowUp;
    readonly signed: SignedEnvelope;
  },
): Promise<OrderedFollowUp> {
  const { followUp, signed } = ordered;
  let notice: string | null = null;
  try {
    await caller.temporal.withDeadline(Date.now() + START_DEADLINE_MS, () =>
      startFollowUp(caller.temporal, signed, followUp),
    );
  } catch (error) {
    if (!isTemporalTrouble(error)) throw error;
    notice = `the ${followUp.kind} of run ${row.runId} is ordered and recorded; ${temporalTroubleIn(error)}, and the sweep starts it once it can`;
  }
  return new OrderedFollowUp(caller, row, followUp, ordered.kind === 'already', notice);
}

const CallFacts = z.looseObject({ kind: z.literal('admitted'), path: z.string() });

async function writesOf(caller: Caller, row: RunRow): Promise<UndoneCall[]> {
  const { store } = caller;
  const runId = RunId.parse(row.runId);
  const writes = await reachDatabase(async () => {
    const paths = new Set<string>();
    for await (const entry of journalEntries(store, runId)) {
      const facts = CallFacts.safeParse(JSON.parse(entry.facts)).data;
      if (facts && !facts.path.endsWith('/undo')) paths.add(facts.path);
    }
    const found: { call: CallRow; became: UndoneCall['became'] }[] = [];
    for (const path of [...paths].reverse()) {
      const call = await store.call(runId, path);
      if (!call || call.reversible === null || !mayHaveHappened(call)) continue;
      const undo = await store.call(runId, undoPath(path));
      found.push({ call, became: becameOf(call, undo) });
    }
    return found;
  });
  return Promise.all(
    writes.map(async ({ call, became }) => {
      const { path, action, reversible } = call;
      return { path, action, became, reversible, undoable: await undoableOf(caller, call) };
    }),
  );
}

/** As the undo itself decides it: an action that can be undone without a trace may need no undoing, and declares none then. */
async function undoableOf({ actions }: Caller, { action, reversible }: CallRow): Promise<boolean | null> {
  if (reversible !== 'reversible') return reversible === 'compensable';
  const known = (await actions())?.get(action);
  return known ? known.compensate !== null : null;
}

const mayHaveHappened = ({ state }: CallRow): boolean =>
  state === 'succeeded' || state === 'unknown' || state === 'claimed';

function becameOf(call: CallRow, undo: CallRow | undefined): UndoneCall['became'] {
  if (undo?.state === 'succeeded') return 'undone';
  if (call.reviewNo !== null || (undo && undo.reviewNo !== null)) return 'waits';
  return undo?.state === 'failed' ? 'given_up' : 'left';
}
