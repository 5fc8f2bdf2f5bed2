import { setCurrentDetails, upsertSearchAttributes } from '@temporalio/workflow';
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import type { Refusal } from '../contracts/refusal';
import type { UndoOutcome } from '../contracts/reviews';
import { REFUSAL_ORIGINS, RUN_STATES, type RunState } from '../contracts/states';
import type { Queued } from '../contracts/workflow-io';
import type { Slot } from './slot';

export const RUN_STATE = defineSearchAttributeKey('RunState', SearchAttributeType.KEYWORD);
const KEPT_LINES = 12;

/**
 * What a workflow on a run shows of itself, in plain words and without payload: search attribute, the current details of
 * Temporal's UI and the answer of its query. Also what its waits need: wake-ups, and the highest sequence it was told.
 */
export abstract class WorkView {
  seq: number;
  wakeUps = 0;
  /** What it gives up while it waits for a person; follow-ups have none. */
  slot: Slot | undefined;
  protected state: RunState = 'accepted';
  /** What it is doing when it does not wait. */
  protected working: RunState = 'running';
  /** What the search attribute says: it lags behind on purpose, for waits under a second are not worth an event. */
  protected searchable: RunState = 'accepted';
  private undo: { -readonly [K in keyof UndoOutcome]: number } | undefined;
  private detail: string = RUN_STATES.accepted;
  private since = new Date().toISOString();
  private approvalNo: number | null = null;
  /** Of a wait that no ledger knows of. */
  private refusal: Refusal | null = null;
  private readonly lines: string[] = [];

  constructor(seq: number) {
    this.seq = seq;
  }

  shown(): {
    state: RunState;
    detail: string;
    since: string;
    approvalNo: number | null;
    refusal: Refusal | null;
  } {
    const { state, detail, since, approvalNo, refusal } = this;
    return { state, detail, since, approvalNo, refusal };
  }

  wake(): void {
    this.wakeUps += 1;
  }

  saw(seq: number): void {
    this.seq = Math.max(this.seq, seq);
  }

  waitsFor(refusal: Refusal): void {
    const state: RunState =
      refusal.origin === 'provider'
        ? 'provider_degraded'
        : refusal.origin === 'control' || refusal.kind === 'frozen'
          ? 'frozen'
          : 'throttled';
    this.enterState(state, inWords(refusal));
    if ((refusal.retryAfterMs ?? 0) > 1_000 && this.searchable !== state) this.upsert(state);
  }

  /** No worker takes its call: too long already to be passed over. */
  waitsForLane(refusal: Refusal): void {
    this.enterState('throttled', `${inWords(refusal)}; ${refusal.message}`);
    this.refusal = refusal;
    if (this.searchable !== 'throttled') this.upsert('throttled');
  }

  /** Where it stood when it asked: it is told only once it has one. */
  waitsForSlot({ refusal, position, waiting }: Queued): void {
    const place = position === null ? `one of ${waiting}` : `position ${position} of ${waiting}`;
    this.enterState(
      'queued',
      `waits for a slot of its tenant: ${place}; ${refusal.used ?? '?'} of ${refusal.value ?? '?'} concurrent runs`,
    );
    this.refusal = refusal;
    if (this.searchable !== 'queued') this.upsert('queued');
  }

  waitsForReview(refusal: Refusal, reviewNo: number): void {
    this.enterState(
      'review_required',
      `review ${reviewNo}: ${inWords(refusal)}; \`bulkhead review show ${reviewNo}\``,
    );
    if (this.searchable !== 'review_required') this.upsert('review_required');
  }

  /** @param what the action that would be made. */
  waitsForApproval(approvalNo: number, what: string): void {
    const command = `\`bulkhead approval show ${approvalNo}\``;
    this.enterState('approval_required', `waits for approval ${approvalNo} of ${what}; ${command}`);
    this.approvalNo = approvalNo;
    if (this.searchable !== 'approval_required') this.upsert('approval_required');
  }

  /** Too short for an attribute: it works on, slowly. */
  pausesAfter(refusedInARow: number): void {
    this.enterState(this.working, `policy refused ${refusedInARow} calls in a row: pauses before the next`);
  }

  /** It asks again, and may have to wait on: the attribute stays until that is known, for each change of it is an event. */
  asksAgain(): void {
    this.enterState(this.working, this.doing());
  }

  goesOn(): void {
    this.enterState(this.working, this.doing());
    if (this.searchable !== this.working) this.upsert(this.working);
  }

  /** From here on it undoes what the run did. */
  undoes(writes: number): void {
    this.undo = { undone: 0, left: 0, abandoned: 0 };
    this.working = 'compensating';
    this.note(`undoes ${writes} writes, the newest first`);
    this.goesOn();
  }

  countUndo(path: string, action: string, became: keyof UndoOutcome, why: string | null): void {
    if (this.undo) this.undo[became] += 1;
    this.note(`${path} ${action}: ${became}${why === null ? '' : ` (${why})`}`);
  }

  /** Its refusal decides nothing: the write is to be undone yet. */
  notUndone(path: string, action: string, refusal: Refusal): void {
    this.note(`${path} ${action}: not undone yet (${inWords(refusal)})`);
  }

  failedWith(error: unknown): void {
    const type = error instanceof Error && error.cause instanceof Error ? error.cause.name : 'failure';
    this.note(`stopped by a failure (${type}); the event history has it`);
  }

  refused(refusal: Refusal): void {
    this.note(`not entered: ${inWords(refusal)}`);
  }

  protected doing(): string {
    return this.working === 'compensating' ? RUN_STATES.compensating : 'works';
  }

  protected abstract counts(): string;

  protected enterState(state: RunState, detail: string): void {
    this.state = state;
    this.detail = detail;
    this.approvalNo = null;
    this.refusal = null;
    this.since = new Date().toISOString();
    this.render();
  }

  protected note(line: string): void {
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines.shift();
    this.render();
  }

  protected upsert(state: RunState): void {
    this.searchable = state;
    upsertSearchAttributes([{ key: RUN_STATE, value: state }]);
  }

  private render(): void {
    const head = `**${this.state}** — ${this.detail}`;
    const undo =
      this.undo && `${this.undo.undone} undone · ${this.undo.left} left · ${this.undo.abandoned} given up`;
    const counts = [this.counts(), undo].filter(Boolean).join(' · ');
    setCurrentDetails([head, counts, ...this.lines.map((line) => `- ${line}`)].join('\n\n'));
  }
}

/** What a follow-up shows: the undo of a closed run, or one call again. */
export class FollowUpView extends WorkView {
  /** It was started under the state that it shows while it works. */
  constructor(
    private readonly what: string,
    working: 'running' | 'compensating',
  ) {
    super(0);
    this.working = working;
    this.searchable = working;
  }

  entered(seq: number): void {
    this.saw(seq);
    this.goesOn();
  }

  close(how: string): void {
    this.enterState('closed', how);
    this.upsert('closed');
  }

  protected counts(): string {
    return this.what;
  }
}

/** A refusal in plain words: who refused, by which rule or limit, and when it frees. Never its payload. */
export function inWords(refusal: Refusal): string {
  const limit = refusal.value === undefined ? '' : ` (${refusal.used ?? '?'} of ${refusal.value})`;
  const frees =
    refusal.retryAfterMs === undefined ? '' : `, frees in ${Math.ceil(refusal.retryAfterMs / 1_000)} s`;
  return `${refusal.kind.replaceAll('_', ' ')} by ${REFUSAL_ORIGINS[refusal.origin]}: ${refusal.rule}${limit}${frees}`;
}
