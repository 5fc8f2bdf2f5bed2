import type { ZONES } from '../../activities/registry';
import type { ScenarioName } from './scenarios';

/** What shows that an activity may fail, or be repeated, at any time. */
export interface ActivityRow {
  /** Brings the activity about, and says what has to be true once all is over. */
  readonly scenario: ScenarioName;
  /**
   * Of an activity that a run's own workflow calls: what the run ends as when it never succeeds there, and when its
   * answer never arrives. Whatever it is, the writes of a run that asks for it are undone.
   */
  readonly forGood?: { readonly never: readonly string[]; readonly unheard: readonly string[] };
}

/**
 * A row per registered activity. `test/chaos/activities.test.ts` makes its cases from it and fails on an activity without
 * a row, and on a row without an activity.
 */
export const ACTIVITY_ROWS: Record<keyof typeof ZONES, ActivityRow> = {
  enterRun: { scenario: 'failedRun', forGood: { never: ['failed'], unheard: ['failed'] } },
  callModel: { scenario: 'failedRun', forGood: { never: ['failed'], unheard: ['failed'] } },
  callTool: { scenario: 'failedRun', forGood: { never: ['failed'], unheard: ['failed'] } },
  beginUndo: {
    scenario: 'failedRun',
    forGood: { never: ['model_misbehaved'], unheard: ['model_misbehaved'] },
  },
  parkRun: { scenario: 'approvedRun' },
  resumeRun: { scenario: 'approvedRun' },
  // Nobody closes the run but the sweep, which finds its workflow failed.
  leaveRun: { scenario: 'failedRun', forGood: { never: ['failed'], unheard: ['model_misbehaved'] } },
  undoCall: {
    scenario: 'failedRun',
    forGood: { never: ['model_misbehaved'], unheard: ['model_misbehaved'] },
  },
  leaveFollowUp: {
    scenario: 'failedRun',
    forGood: { never: ['model_misbehaved'], unheard: ['model_misbehaved'] },
  },
  enterFollowUp: { scenario: 'rollback' },
  retryCall: { scenario: 'deadLetter' },
  findLane: { scenario: 'unserved' },
  loadControl: { scenario: 'kill' },
  applyControl: { scenario: 'kill' },
  awaitContained: { scenario: 'kill' },
  drainRuns: { scenario: 'kill' },
  startAccepted: { scenario: 'sweep' },
  closeGone: { scenario: 'sweep' },
  reapCalls: { scenario: 'sweep' },
  ensureControls: { scenario: 'sweep' },
  startFollowUps: { scenario: 'sweep' },
  tendQueues: { scenario: 'sweep' },
  purge: { scenario: 'sweep' },
  checkHeads: { scenario: 'sweep' },
};
