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
  /** Those that decided it. */
  readonly rules: readonly string[];
  /** The entry of `secrets` that grants the call its credential; empty for one that needs none, and where it is denied. */
  readonly grant: readonly string[];
  /** Of `approve` and `suggest`: who may let it happen. */
  readonly approval: ApprovalTerms | null;
  /** In words; no payload. */
  readonly message: string;
}

/** What a call needs beside a rule. */
export interface Needs {
  /** Capability of its credential. */
  readonly secret: string | null;
  /** Whether what it wrote can be read back. */
  readonly readBack: boolean;
}

/**
 * What a call comes to under a policy, form and scope apart: its rules, then its credential, then its read-back. What may never
 * be used is denied at once, also where a person would be asked first. Whoever ordered an undo has decided it, so `approve`
 * lets it pass; one that is only suggested undoes nothing, so `suggest` stops it; and nobody reads it back: it answers, or a
 * person reviews it.
 */
export function outcomeOf(policy: CompiledPolicy, request: PolicyRequest, needs: Needs): Outcome {
  const decided = policy.decide(request);
  const effect = request.undo ? OF_UNDO[decided.effect] : decided.effect;
  const denied = (rules: readonly string[], message: string): Outcome => ({
    effect: 'deny',
    rules,
    grant: [],
    approval: null,
    message,
  });
  if (effect === 'deny') return denied(decided.rules, decided.message);
  const grant = needs.secret === null ? null : policy.mayUseSecret(request.agentId, needs.secret);
  if (grant?.effect === 'deny') return denied(grant.rules, grant.message);
  const { action, undo } = request;
  if (request.effect === 'high_risk_write' && !needs.readBack && !undo && !policy.readBackWaived(action)) {
    const words = `${action} declares no read-back, and the policy does not accept that (readBackWaived)`;
    return denied([READ_BACK_MISSING], words);
  }
  const approval = effect === 'allow' ? null : decided.approval;
  return { effect, rules: decided.rules, grant: grant?.rules ?? [], approval, message: decided.message };
}

/** What a call of the app needs, from what its action declares. */
export function needsOf({ action: name, system }: PolicyRequest, registry: Registry): Needs {
  if (name === MODEL_ACTION) return { secret: `${system}:generate`, readBack: false };
  const action = registry.actions.get(name);
  return { secret: action?.secret ?? null, readBack: Boolean(action?.verify) };
}

/** What decisions name where a high-risk write cannot be read back and the policy does not accept that. */
export const READ_BACK_MISSING = 'read_back_missing';

const OF_UNDO = { allow: 'allow', approve: 'allow', suggest: 'deny', deny: 'deny' } as const;
