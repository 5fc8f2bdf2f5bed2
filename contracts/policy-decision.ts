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
  /** How it would connect there. Left out, `destination` is an address out of arguments, at https and 443. */
  readonly endpoint?: Endpoint | null;
  /** `provider/model` of a model call. */
  readonly model: string | null;
  readonly args: Readonly<Record<string, unknown>>;
  readonly facts: Readonly<Record<string, Attribute>>;
  /** Classes of what it would carry: of its arguments by schema, and of everything its run has read (promise P3). Sorted, each once. */
  readonly dataClasses: readonly string[];
}

/** The way to a destination, as the client would take it. */
export interface Endpoint {
  readonly scheme: 'http' | 'https';
  readonly port: number;
  /** It is the tenant's own connection: its operator has chosen scheme and port, and no argument or answer. */
  readonly connection: boolean;
}

/** The question without the arguments, which stay where the model's step is stored: what is kept of each decision. */
export type DecisionInput = Omit<PolicyRequest, 'args'>;

/** From the weakest to the strongest of what rules may say; `deny` is also the answer to silence and to every error. */
export type PolicyEffect = 'allow' | 'approve' | 'suggest' | 'deny';

/** Who may approve a call, and until when: of every rule that asks for it. */
export interface ApprovalTerms {
  /** Ids of the rules that ask. The same rules have to ask when the approval is used. */
  readonly rules: readonly string[];
  /** An approver holds a role out of each of these lists. */
  readonly roles: readonly (readonly string[])[];
  /** From the request on; the shortest that any of the rules says. */
  readonly expiresAfterMs: number;
  /** The principal of the run may not approve it. */
  readonly notRequester: boolean;
}

/** What policy says. */
export interface PolicyDecision {
  readonly effect: PolicyEffect;
  /** Ids of the deciding rules; `default-deny` or `evaluation-error` where no rule decided. */
  readonly rules: readonly string[];
  readonly policyVersion: number;
  /** In words, for people and models; no payload. */
  readonly message: string;
  /** Of `approve`: what an approval has to meet. Of `suggest`: who may turn the suggestion into a call. Else `null`. */
  readonly approval: ApprovalTerms | null;
}

/** A policy version made ready to decide. Pure and synchronous. */
export interface CompiledPolicy {
  readonly version: number;
  readonly profile: string;
  decide(request: PolicyRequest): PolicyDecision;
  /** Whether agents of this id may use the secret capability. Silence is no. */
  mayUseSecret(agentId: string, capability: string): PolicyDecision;
  /** Models that may answer where this one's provider is in trouble, in their order. */
  fallbacksOf(model: string): readonly string[];
  /** Whether a run waits for the review of a write whose outcome is not known, or ends. */
  readonly onUnknownOutcome: 'review' | 'stop';
  /** Whether a kill undoes what the killed runs did. */
  readonly compensateOnKill: boolean;
  /** Whether the tenant accepts, in words, that this action has no read-back. */
  readBackWaived(action: string): boolean;
}
