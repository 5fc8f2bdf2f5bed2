import type { Action } from '../contracts/action';
import { MODEL_ACTION } from '../contracts/names';
import type {
  ApprovalTerms,
  CompiledPolicy,
  PolicyEffect,
  PolicyRequest,
} from '../contracts/policy-decision';
import type { Registry } from './vocabulary';

/** What a call comes to. */
export interface Outcome {
  readonly effect: PolicyEffect;
  /** Those that decided it; an entry of `secrets` that grants the credential is not among them. */
  readonly rules: readonly string[];
  /** Of `approve` and `suggest`: who may let it happen. */
  readonly approval: ApprovalTerms | null;
  /** In words; no payload. */
  readonly message: string;
}

/**
 * What a call comes to under a policy, form and scope apart: its rules, then its credential, then its read-back, in the
 * order in which the gateway asks. Whoever ordered an undo has decided it, so `approve` lets it pass; nobody reads a
 * suggestion to undo, so `suggest` stops it.
 */
export function outcomeOf(policy: CompiledPolicy, request: PolicyRequest, registry: Registry): Outcome {
  const decided = policy.decide(request);
  const effect = request.undo ? OF_UNDO[decided.effect] : decided.effect;
  const denied = (rules: readonly string[], message: string): Outcome => ({
    effect: 'deny',
    rules,
    approval: null,
    message,
  });
  if (effect === 'deny') return denied(decided.rules, decided.message);
  const action = registry.actions.get(request.action);
  const secret = request.action === MODEL_ACTION ? `${request.system}:generate` : action?.secret;
  const grant = secret ? policy.mayUseSecret(request.agentId, secret) : undefined;
  if (grant?.effect === 'deny') return denied(grant.rules, grant.message);
  if (action && lacksReadBack(action, request, policy)) {
    const words = `${action.name} declares no read-back, and the policy does not accept that (readBackWaived)`;
    return denied([READ_BACK_MISSING], words);
  }
  const approval = effect === 'allow' ? null : decided.approval;
  return { effect, rules: decided.rules, approval, message: decided.message };
}

/** What decisions name where a high-risk write cannot be read back and the policy does not accept that. */
export const READ_BACK_MISSING = 'read_back_missing';

const OF_UNDO = { allow: 'allow', approve: 'allow', suggest: 'deny', deny: 'deny' } as const;

const lacksReadBack = (action: Action, { undo }: PolicyRequest, policy: CompiledPolicy): boolean =>
  action.effect === 'high_risk_write' && !action.verify && !undo && !policy.readBackWaived(action.name);
