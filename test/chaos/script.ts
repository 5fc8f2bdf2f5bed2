import type { Move, Script } from '../support/model';
import type { PlannedRun } from './plan';

/** What a run is told: its part of the plan, nothing else. */
export interface ChaosInput {
  readonly run: number;
  readonly steps: PlannedRun['steps'];
  readonly undone: boolean;
}

export const inputOf = (run: number, planned: PlannedRun): ChaosInput => ({
  run,
  steps: planned.steps,
  undone: planned.undone,
});

/** A model that asks for the planned writes, step by step, and then ends its run as planned: well, or by misbehaving. */
export const chaosScript: Script = ({ input, moves }): Move => {
  const told = JSON.parse(input) as ChaosInput;
  const step = told.steps[moves];
  if (step) return { call: step.map(({ kind, intent }) => [`${kind}.write`, { intent }] as const) };
  return told.undone ? { call: [['no.such', {}]] } : { say: 'done' };
};
