/**
 * The one table of what a run can be, why it ended, what a governed call can answer, and who refused. Types,
 * search attributes and docs are made from it.
 */

/** Where a run is now. `closed` is the only final one. */
export const RUN_STATES = {
  accepted: 'recorded, its workflow not started yet',
  queued: 'waits for a slot of its tenant',
  running: 'works',
  throttled: 'waits for a limit to free',
  approval_required: 'waits for a person to approve a call',
  review_required: 'waits for a person to say what happened',
  provider_degraded: 'waits for a model or system outside',
  frozen: 'its tenant is frozen or read-only',
  compensating: 'undoes what it had done',
  closed: 'ended, with one stop reason',
} as const;
export type RunState = keyof typeof RUN_STATES;

/** How the run's workflow closes in Temporal, so that its UI tells the truth. */
export type Closing = 'Completed' | 'Canceled' | 'Failed' | 'Terminated' | 'TimedOut';

/** Why a run ended: exactly one each (promise Q5). */
export const STOP_REASONS = {
  completed: { closing: 'Completed', means: 'the agent finished its work' },
  failed: { closing: 'Failed', means: 'the agent could not finish' },
  budget_exceeded: { closing: 'Failed', means: 'a budget of the run or its tenant was used up' },
  policy_denied: { closing: 'Failed', means: 'policy refused what the run cannot do without' },
  approval_denied: { closing: 'Failed', means: 'a person refused an approval' },
  approval_expired: { closing: 'Failed', means: 'nobody decided an approval in time' },
  review_abandoned: { closing: 'Failed', means: 'a review was given up' },
  killed: { closing: 'Failed', means: 'an operator killed the run or its tenant' },
  cancelled: { closing: 'Canceled', means: 'the caller cancelled the run' },
  scope_ambiguous: { closing: 'Failed', means: 'a record could not be shown to be the tenant’s' },
  provider_degraded: { closing: 'Failed', means: 'a model or system outside stayed unusable' },
  credential_unavailable: { closing: 'Failed', means: 'no usable credential for a call' },
  idempotency_conflict: { closing: 'Failed', means: 'a call’s position was used with other arguments' },
  outcome_unknown: { closing: 'Failed', means: 'it is not known whether a write happened' },
  model_misbehaved: { closing: 'Failed', means: 'the model kept answering out of form or out of bounds' },
  terminated: { closing: 'Terminated', means: 'the workflow was terminated from outside' },
  timed_out: { closing: 'TimedOut', means: 'the workflow ran out of its time' },
} as const satisfies Record<string, { closing: Closing; means: string }>;
export type StopReason = keyof typeof STOP_REASONS;

/** What a governed call answers. A value, never an exception: exceptions are for what a retry can mend. */
export const OUTCOMES = {
  done: 'the call ran and its result is recorded',
  suggested: 'recorded as a suggestion, not performed',
  denied: 'policy, schema or scope refused it',
  approval_required: 'a person has to approve it first',
  throttled: 'a limit of the tenant, or its share of the platform, is used up for now',
  budget_exceeded: 'a budget of the run is used up for good',
  provider_degraded: 'the model or system outside is unusable',
  failed: 'the call ran and failed, finally',
  idempotency_conflict: 'its position was used with other arguments',
  outcome_unknown: 'it may or may not have happened',
  read_back_mismatch: 'it answered, and reading it back showed something else',
  scope_ambiguous: 'a record in it could not be shown to be the tenant’s',
  frozen: 'the tenant takes no such call now',
  killed: 'an operator has stopped it',
} as const;
export type OutcomeKind = keyof typeof OUTCOMES;

/** Who refused (promise Q4). */
export const REFUSAL_ORIGINS = {
  tenant_cap: 'a limit of the tenant',
  policy: 'a rule, schema or scope',
  provider: 'a model or system outside',
  control: 'an operator',
  platform: 'Bulkhead itself, failing closed',
} as const;
export type RefusalOrigin = keyof typeof REFUSAL_ORIGINS;

/** Modes of a tenant (promise P11). Only `normal` and `killed` are reachable so far. */
export const TENANT_MODES = ['normal', 'frozen', 'suggest_only', 'read_only', 'killed'] as const;
export type TenantMode = (typeof TENANT_MODES)[number];

/** Search attributes of a run, all of type Keyword. Never a payload, never personal data. */
export const SEARCH_ATTRIBUTES = [
  'TenantId',
  'Environment',
  'WorkspaceId',
  'AgentId',
  'PolicyProfile',
  'QuotaClass',
  'RunState',
  'StopReason',
] as const;
export type SearchAttribute = (typeof SEARCH_ATTRIBUTES)[number];
