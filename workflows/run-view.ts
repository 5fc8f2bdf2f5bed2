import { setCurrentDetails, upsertSearchAttributes } from '@temporalio/workflow';
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import type { ModelStep } from '../contracts/calls';
import type { Refusal } from '../contracts/refusal';
import {
  REFUSAL_ORIGINS,
  RUN_STATES,
  STOP_REASONS,
  type RunState,
  type StopReason,
} from '../contracts/states';
import type { AgentRunCarry, Usage } from '../contracts/workflow-io';

const RUN_STATE = defineSearchAttributeKey('RunState', SearchAttributeType.KEYWORD);
const STOP_REASON = defineSearchAttributeKey('StopReason', SearchAttributeType.KEYWORD);
const KEPT_LINES = 12;

/**
 * What a run shows of itself, in plain words and without payload: search attributes, the current details of Temporal's
 * UI and the answer of its query. Also the little that continue-as-new carries on.
 */
export class RunView {
  step: number;
  seq: number;
  wakeUps = 0;
  readonly generation: number;
  private counts: { -readonly [K in keyof Usage]: number };
  private state: RunState = 'accepted';
  private detail: string = RUN_STATES.accepted;
  private since = new Date().toISOString();
  /** What the search attribute says: it lags behind on purpose, for waits under a second are not worth an event. */
  private searchable: RunState = 'accepted';
  private readonly lines: string[] = [];

  constructor(carry: AgentRunCarry | undefined) {
    this.step = carry?.step ?? 0;
    this.seq = carry?.seq ?? 0;
    this.generation = carry?.generation ?? 0;
    this.counts = {
      ...(carry?.usage ?? { modelCalls: 0, toolCalls: 0, refusals: 0, inputTokens: 0, outputTokens: 0 }),
    };
  }

  get usage(): Usage {
    return this.counts;
  }

  carry(): AgentRunCarry {
    return { step: this.step, seq: this.seq, generation: this.generation + 1, usage: this.counts };
  }

  shown(): { state: RunState; detail: string; since: string } {
    return { state: this.state, detail: this.detail, since: this.since };
  }

  wake(): void {
    this.wakeUps += 1;
  }

  saw(seq: number): void {
    this.seq = Math.max(this.seq, seq);
  }

  entered(seq: number): void {
    this.saw(seq);
    this.enterState('running', 'works');
    if (this.generation === 0) this.upsert('running');
    else this.searchable = 'running';
  }

  refused(refusal: Refusal): void {
    this.note(`not entered: ${inWords(refusal)}`);
  }

  waitsFor(refusal: Refusal): void {
    const state: RunState =
      refusal.origin === 'provider'
        ? 'provider_degraded'
        : refusal.origin === 'control'
          ? 'frozen'
          : 'throttled';
    this.enterState(state, inWords(refusal));
    if ((refusal.retryAfterMs ?? 0) > 1_000) this.upsert(state);
  }

  goesOn(): void {
    this.enterState('running', 'works');
    if (this.searchable !== 'running') this.upsert('running');
  }

  countModel(step: ModelStep): void {
    this.counts.modelCalls += 1;
    this.counts.inputTokens += step.inputTokens;
    this.counts.outputTokens += step.outputTokens;
    const asked = step.toolCalls.map((action) => action ?? 'an action that does not exist').join(', ');
    this.note(`step ${this.step}: the model ${asked ? `asks for ${asked}` : 'is done'}`);
  }

  countTool(refusal: Refusal | null, action: string | null): void {
    if (refusal) this.counts.refusals += 1;
    else this.counts.toolCalls += 1;
    this.note(
      `step ${this.step}: ${action ?? 'an action that does not exist'} ${refusal ? inWords(refusal) : 'done'}`,
    );
  }

  failedWith(error: unknown): void {
    const type = error instanceof Error && error.cause instanceof Error ? error.cause.name : 'failure';
    this.note(`stopped by a failure (${type}); the event history has it`);
  }

  close(stopReason: StopReason): void {
    this.enterState('closed', `${stopReason}: ${STOP_REASONS[stopReason].means}`);
    upsertSearchAttributes([
      { key: RUN_STATE, value: 'closed' },
      { key: STOP_REASON, value: stopReason },
    ]);
  }

  private enterState(state: RunState, detail: string): void {
    this.state = state;
    this.detail = detail;
    this.since = new Date().toISOString();
    this.render();
  }

  private note(line: string): void {
    this.lines.push(line);
    if (this.lines.length > KEPT_LINES) this.lines.shift();
    this.render();
  }

  private render(): void {
    const { modelCalls, toolCalls, refusals } = this.counts;
    const head = `**${this.state}** — ${this.detail}`;
    const counts = `${modelCalls} model calls · ${toolCalls} tool calls done · ${refusals} refused`;
    setCurrentDetails([head, counts, ...this.lines.map((line) => `- ${line}`)].join('\n\n'));
  }

  private upsert(state: RunState): void {
    this.searchable = state;
    upsertSearchAttributes([{ key: RUN_STATE, value: state }]);
  }
}

/** A refusal in plain words: who refused, by which rule or limit, and when it frees. Never its payload. */
function inWords(refusal: Refusal): string {
  const limit = refusal.value === undefined ? '' : ` (${refusal.used ?? '?'} of ${refusal.value})`;
  const frees =
    refusal.retryAfterMs === undefined ? '' : `, frees in ${Math.ceil(refusal.retryAfterMs / 1_000)} s`;
  return `${refusal.kind.replaceAll('_', ' ')} by ${REFUSAL_ORIGINS[refusal.origin]}: ${refusal.rule}${limit}${frees}`;
}
