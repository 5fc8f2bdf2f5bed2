/** What `import … from 'bulkhead'` gives: the client for backends, and what authors of actions and agents write with. */

import { connectBulkhead, type ConnectedBulkhead } from './connect';

/** `const bulkhead = await Bulkhead.connect()`: see docs/client.md. */
export const Bulkhead = { connect: connectBulkhead } as const;
export type Bulkhead = ConnectedBulkhead;
export type { ConnectOptions } from './connect';

export { BulkheadError, type ErrorCode } from '../client/errors';
export type { RunRequest } from '../client/acceptance';
export type { IdentityConfig } from '../client/identity';
export type { BesideRun, WaitingForPeople } from '../client/beside';
export type { Explanation, Run, RunResult } from '../client/run';
export type { ApprovalVerdict, DecidedApproval, Promotion } from '../client/approvals';
export type { LetterDecision } from '../client/dead-letters';
export type { FollowUpProgress, OrderedFollowUp, UndoneCall } from '../client/follow-ups';
export type { ResolvedReview, ReviewVerdict } from '../client/reviews';
export type { ApprovalRow, ApprovalState, SuggestionRow } from '../contracts/approvals';
export type { ApprovalTerms } from '../contracts/policy-decision';
export type { RunRow } from '../contracts/rows';
export type { DeadLetter, FollowUp, Resolution, ReviewRow, UndoOutcome } from '../contracts/reviews';
export type { Refusal } from '../contracts/refusal';
export type { RunState, StopReason } from '../contracts/states';

export { defineAction } from '../tools/define-action';
export { defineAgent } from '../tools/define-agent';
export { defineApp, type App } from '../tools/app';
export type { Action, ActionContext, ActionSpec } from '../contracts/action';
export { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../contracts/http-errors';
export type { Agent } from '../contracts/agent';
