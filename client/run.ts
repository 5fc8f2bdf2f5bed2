import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowFailedError, WorkflowNotFoundError } from '@temporalio/client';
import type { SignedEnvelope } from '../contracts/envelope';
import type { RunRow } from '../contracts/rows';
import { orAborted } from '../contracts/or-aborted';
import { RUN_STATES, type RunState, type StopReason } from '../contracts/states';
import { QUERIES, SIGNALS } from '../contracts/workflow-io';
import { besideRun, waitingForPeople, type BesideRun, type WaitingForPeople } from './beside';
import type { Caller } from './caller';
import { BulkheadError, reachDatabase } from './errors';
import { explained, Live, type Explanation } from './explanation';
import { orderRollback, type OrderedFollowUp } from './follow-ups';
import { isTemporalTrouble, temporalTroubleIn } from './temporal-trouble';
import { deadlineIn } from './timeout';

export type { Explanation } from './explanation';

/** How a run ended. `output` is the agent's last word, where it had one. */
export interface RunResult {
  readonly runId: string;
  readonly state: 'closed';
  readonly stopReason: StopReason;
  readonly output: string | null;
  readonly usage: {
    readonly steps: number;
    readonly toolCalls: number;
    readonly refusals: number;
    readonly spentMicroUsd: number;
  };
}

/** How long Temporal may take to note that a run is cancelled. */
const CANCEL_DEADLINE_MS = 5_000;

/** How long one look at a run's workflow lasts before its row is read again. */
const LONG_POLL_MS = 20_000;

/** The same where somebody watches what the run waits for. */
const WATCHED_POLL_MS = 2_000;

/**
 * A run that the caller may see. Its row in the database is the truth, also for one that was terminated from outside,
 * and once Temporal has forgotten it. Methods throw a {@link BulkheadError}.
 */
export class Run {
  constructor(
    private readonly ports: Caller,
    private readonly accepted: RunRow,
    /** How it was accepted; `undefined` for a run that was looked up. */
    readonly acceptance?: {
      readonly existing: boolean;
      readonly started: boolean;
      readonly notice: string | null;
      readonly signed: SignedEnvelope;
    },
  ) {}

  get runId(): string {
    return this.accepted.runId;
  }
  /** In Temporal, for operators. */
  get workflowId(): string {
    return this.accepted.workflowId;
  }

  /** The run's row as it is now. */
  async row(): Promise<RunRow> {
    const row = await reachDatabase(() => this.ports.store.run(this.accepted.runId));
    return row ?? this.accepted;
  }

  async state(): Promise<RunState> {
    return (await this.row()).state;
  }

  /**
   * Resolves when the run is closed, whatever the reason; a run that ended badly is a result, not an error.
   * With `timeoutMs`, throws `timeout` after it, and says what the run was doing: the run itself goes on.
   * `onLook` is told every two seconds what of the run waits for a person.
   */
  async result(
    options: {
      timeoutMs?: number;
      signal?: AbortSignal;
      onLook?: (waiting: WaitingForPeople) => void | Promise<void>;
    } = {},
  ): Promise<RunResult> {
    const pollMs = options.onLook ? WATCHED_POLL_MS : LONG_POLL_MS;
    const deadline = deadlineIn(options.timeoutMs);
    let ended = false;
    for (;;) {
      const row = await this.row();
      if (row.state === 'closed' && row.stopReason !== null) return this.resultOf(row, row.stopReason);
      await options.onLook?.(await waitingForPeople(this.ports.store, this.accepted.runId));
      const left = deadline - Date.now();
      if (left <= 0) throw await this.goesOn(row.state);
      if (ended) await sleep(Math.min(left, 250), undefined, options.signal && { signal: options.signal });
      else ended = await this.workflowEnds(Math.min(left, pollMs), options.signal);
    }
  }

  /** What the run does or waits for, by which limit, since when and until when, and what was last refused to it. */
  async explain(): Promise<Explanation> {
    const row = await this.row();
    return explained(this.ports.store, row, row.state === 'closed' ? undefined : await this.live());
  }

  /**
   * Asks the run to stop; it closes as `cancelled` once no call of it can act any more. A closed run stays as it is.
   * The reason goes into the workflow's history: no payload and no personal data in it. Longer than 200 characters is cut.
   */
  async cancel(reason: string): Promise<void> {
    const { temporal } = this.ports;
    try {
      await temporal.withDeadline(Date.now() + CANCEL_DEADLINE_MS, () =>
        temporal.workflow
          .getHandle(this.workflowId)
          .signal(SIGNALS.cancelRun, { reason: reason.slice(0, 200) }),
      );
    } catch (error) {
      if ((await this.row()).state === 'closed') return;
      if (error instanceof WorkflowNotFoundError) {
        throw new BulkheadError(
          'unavailable',
          `run ${this.runId} is accepted and not started yet: try again in a few seconds`,
          { reason: 'not_started', cause: error },
        );
      }
      if (isTemporalTrouble(error)) {
        throw new BulkheadError(
          'unavailable',
          `${temporalTroubleIn(error)}, so it is not known that run ${this.runId} was told to stop: ask again, it is safe to repeat`,
          { reason: 'temporal', cause: error },
        );
      }
      throw error;
    }
  }

  /**
   * Orders that the writes of this run are undone, newest first, and starts that. The run has to be closed; see
   * {@link OrderedFollowUp} for its end. What is `final` is left, and counted.
   */
  async rollback(request: { note?: string; actor?: string } = {}): Promise<OrderedFollowUp> {
    return orderRollback(this.ports, await this.row(), request);
  }

  /** What is kept beside the run: approvals, suggestions, reviews, dead letters, and what was ordered on it after its end. */
  async beside(): Promise<BesideRun> {
    return besideRun(this.ports.store, this.accepted.runId);
  }

  private async goesOn(state: RunState): Promise<BulkheadError> {
    const [approval] = (await waitingForPeople(this.ports.store, this.accepted.runId)).approvals;
    const waits = approval ? `, and approval ${approval.approvalNo} of ${approval.action} is open` : '';
    return new BulkheadError(
      'timeout',
      `run ${this.runId} goes on: it is ${state} (${RUN_STATES[state]})${waits}; ask again, or \`bulkhead run explain ${this.runId}\``,
    );
  }

  /** What the workflow says of itself, finer than its row; `undefined` where it does not answer within a second. */
  private async live(): Promise<Live | undefined> {
    const { temporal } = this.ports;
    try {
      const handle = temporal.workflow.getHandle(this.workflowId);
      return Live.safeParse(
        await temporal.withDeadline(Date.now() + 1_000, () => handle.query(QUERIES.runState)),
      ).data;
    } catch (error) {
      if (error instanceof Error) return undefined;
      throw error;
    }
  }

  private async resultOf(row: RunRow, stopReason: StopReason): Promise<RunResult> {
    const { runId, outputRef, steps, toolCalls, refusals, spentMicroUsd } = row;
    const payload =
      outputRef === null ? undefined : await reachDatabase(() => this.ports.store.payload(runId, outputRef));
    const output = payload?.kind === 'model' ? payload.text : null;
    return {
      runId,
      state: 'closed',
      stopReason,
      output,
      usage: { steps, toolCalls, refusals, spentMicroUsd },
    };
  }

  /** Follows the workflow, over continue-as-new, for so long. `true` once it has ended; its row is then about to be closed. */
  private async workflowEnds(forMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    const over = AbortSignal.timeout(forMs);
    const either = signal ? AbortSignal.any([over, signal]) : over;
    try {
      either.throwIfAborted();
      const ends = this.ports.temporal.withAbortSignal(either, () =>
        this.ports.temporal.workflow.getHandle(this.workflowId).result(),
      );
      // Temporal's client minds a signal that is aborted while a poll is under way, not one that was between two of them.
      await orAborted(ends, either);
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof WorkflowFailedError) return true;
      if (over.aborted) return false;
      if (!(error instanceof WorkflowNotFoundError) && !isTemporalTrouble(error)) throw error;
      // Not started yet, forgotten by Temporal, or Temporal is away: the row alone can tell.
      await sleep(Math.min(forMs, 500), undefined, signal && { signal });
      return false;
    }
  }
}
