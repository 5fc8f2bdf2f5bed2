import type { Attribute, Effect, Reversibility } from './action';

/** A question to policy: everything a rule may look at, nothing it may not. */
export interface PolicyRequest {
  readonly agentId: string;
  readonly agentClass: string;
  readonly workspaceId: string;
  readonly environment: string;
  readonly principal: { readonly kind: string; readonly subject: string };
  readonly target: { readonly system: string; readonly recordId: string } | null;
  readonly action: string;
  readonly effect: Effect | 'model';
  /** Of a write, as its action declares it; `none` for reads and model calls. */
  readonly reversible: Reversibility | 'none';
  /** Whether it undoes what an earlier call of the run did. */
  readonly undo: boolean;
  readonly system: string | null;
  /** Host (no port) that the call would connect to; `null` for one that stays inside. */
  readonly destination: string | null;
  /** `provider/model` of a model call. */
  readonly model: string | null;
  readonly args: Readonly<Record<string, unknown>>;
  readonly facts: Readonly<Record<string, Attribute>>;
}

/** What policy says. `deny` is also the answer to silence and to every error. */
export interface PolicyDecision {
  readonly effect: 'allow' | 'deny';
  /** Ids of the deciding rules; `default-deny` or `evaluation-error` where no rule decided. */
  readonly rules: readonly string[];
  readonly policyVersion: number;
  /** In words, for people and models; no payload. */
  readonly message: string;
}

/** A policy version made ready to decide. Pure and synchronous. */
export interface CompiledPolicy {
  readonly version: number;
  readonly profile: string;
  decide(request: PolicyRequest): PolicyDecision;
  /** Whether agents of this id may use the secret capability. Silence is no. */
  mayUseSecret(agentId: string, capability: string): PolicyDecision;
  /** Whether a run waits for the review of a write whose outcome is not known, or ends. */
  readonly onUnknownOutcome: 'review' | 'stop';
  /** Whether a kill undoes what the killed runs did. */
  readonly compensateOnKill: boolean;
  /** Whether the tenant accepts, in words, that this action has no read-back. */
  readBackWaived(action: string): boolean;
}
