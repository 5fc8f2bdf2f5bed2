import { upsertSearchAttributes } from '@temporalio/workflow';
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import type { ModelStep } from '../contracts/calls';
import type { Refusal } from '../contracts/refusal';
import { STOP_REASONS, type StopReason } from '../contracts/states';
import type { AgentRunCarry, Usage } from '../contracts/workflow-io';
import { Repeats, type Repeat } from './repeats';
import { inWords, RUN_STATE, WorkView } from './work-view';

const STOP_REASON = defineSearchAttributeKey('StopReason', SearchAttributeType.KEYWORD);

/** What a run shows of itself; also the little that continue-as-new carries on. */
export class RunView extends WorkView {
  step: number;
  /** Model answers in a row without one usable call. */
  misbehaved: number;
  readonly repeats: Repeats;
  readonly generation: number;
  private used: { -readonly [K in keyof Usage]: number };

  constructor(carry: AgentRunCarry | undefined) {
    super(carry?.seq ?? 0);
    this.step = carry?.step ?? 0;
    this.misbehaved = carry?.misbehaved ?? 0;
    this.repeats = new Repeats(carry?.repeated);
    this.generation = carry?.generation ?? 0;
    this.used = {
      ...(carry?.usage ?? { modelCalls: 0, toolCalls: 0, refusals: 0, inputTokens: 0, outputTokens: 0 }),
    };
  }

  get usage(): Usage {
    return this.used;
  }

  carry(): AgentRunCarry {
    const repeated = this.repeats.carry();
    return {
      step: this.step,
      seq: this.seq,
      generation: this.generation + 1,
      usage: this.used,
      ...(this.misbehaved > 0 && { misbehaved: this.misbehaved }),
      ...(repeated.length > 0 && { repeated }),
    };
  }

  /** A forked run begins where its copy of another run ends. */
  entered(seq: number, firstStep: number): void {
    this.saw(seq);
    this.step = Math.max(this.step, firstStep);
    this.enterState('running', 'works');
    if (this.generation === 0 || this.searchable === 'queued') this.upsert('running');
    else this.searchable = 'running';
  }

  countModel(step: ModelStep): void {
    this.used.modelCalls += 1;
    this.used.inputTokens += step.inputTokens;
    this.used.outputTokens += step.outputTokens;
    const asked = step.toolCalls.map((action) => action ?? 'an action that does not exist').join(', ');
    const who = step.model === undefined ? 'the model' : `${step.model}, in the place of its model,`;
    this.note(`step ${this.step}: ${who} ${asked ? `asks for ${asked}` : 'is done'}`);
  }

  /** Why the run is stopped. */
  loops({ action, times }: Repeat): void {
    const name = action ?? 'an action that does not exist';
    this.note(
      `step ${this.step}: stopped, for the model has asked for ${name} in ${times} steps in a row, with the same arguments and to the same end`,
    );
  }

  countTool(refusal: Refusal | null, action: string | null): void {
    if (refusal) this.used.refusals += 1;
    else this.used.toolCalls += 1;
    this.note(
      `step ${this.step}: ${action ?? 'an action that does not exist'} ${refusal ? inWords(refusal) : 'done'}`,
    );
  }

  close(stopReason: StopReason): void {
    this.enterState('closed', `${stopReason}: ${STOP_REASONS[stopReason].means}`);
    upsertSearchAttributes([
      { key: RUN_STATE, value: 'closed' },
      { key: STOP_REASON, value: stopReason },
    ]);
  }

  protected counts(): string {
    const { modelCalls, toolCalls, refusals } = this.used;
    return `${modelCalls} model calls · ${toolCalls} tool calls done · ${refusals} refused`;
  }
}
