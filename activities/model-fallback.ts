import type { CallAnswer } from '../contracts/calls';
import type { CompiledPolicy } from '../contracts/policy-decision';
import type { Refusal } from '../contracts/refusal';
import { askAgain } from './settle';

/** One question, and the models that may answer it. */
export interface Asking {
  /** The agent's own, `provider/model`. */
  readonly model: string;
  /** See `RestingModels`, of the tenant that asks. */
  readonly resting: {
    left(model: string): number;
    trouble(model: string, retryAfterMs: number | undefined): void;
    answered(model: string): void;
  };
  /** As the policy in force names them. Asked for only while the agent's own model rests. */
  readonly fallbacks: () => Promise<readonly string[]>;
  /** Asks one model, with all of admission; told `another`, it answers a provider's trouble as a value at once. */
  readonly ask: (model: string, another: (policy: CompiledPolicy) => boolean) => Promise<CallAnswer<unknown>>;
}

type Refused = Exclude<CallAnswer<unknown>, { kind: 'done' }>;

/**
 * Asks the agent's own model, and where its provider is in trouble the models that policy names in its place, in their order:
 * each a call of its own, with its own decision, credential, reservation and attempt, at the same position. A model that was just
 * seen in trouble is passed over while another may answer. Where none does, the run waits as for one model's trouble, until the
 * first of them may be asked again.
 */
export async function throughFallbacks(asking: Asking): Promise<CallAnswer<unknown>> {
  const { model, resting } = asking;
  const free = (name: string): boolean => resting.left(name) === 0;
  const tried = new Set<string>();
  let others: readonly string[] = [];
  let trouble: Refused | undefined;
  let next: string | undefined = free(model) ? model : ((await asking.fallbacks()).find(free) ?? model);
  while (next !== undefined) {
    const asked: string = next;
    tried.add(asked);
    others = [];
    let another = false;
    const answer = await asking.ask(asked, (policy) => {
      others = policy.fallbacksOf(model).filter((name) => !tried.has(name) && free(name));
      return (another = others.length > 0 || asked !== model);
    });
    if (answer.kind === 'done') {
      resting.answered(asked);
      return answer;
    }
    // With nothing to stand in for it, what the call comes to is decided already.
    if (!another && asked === model) return answer;
    if (answer.kind === 'provider_degraded') {
      resting.trouble(asked, answer.refusal.retryAfterMs);
      trouble ??= answer;
    } else if (asked === model || !mayNotStandIn(answer.refusal)) {
      return answer;
    }
    // What may not stand in for the model leaves no other answer than the model's own.
    next = others[0] ?? (trouble || tried.has(model) ? undefined : model);
  }
  if (!trouble) throw new Error('no model has answered, and none was in trouble');
  const waits = [model, ...tried].map((name) => resting.left(name)).filter((ms) => ms > 0);
  const retryAfterMs = waits.length > 0 ? Math.min(...waits) : 0;
  return askAgain({ ...trouble, refusal: { ...trouble.refusal, retryAfterMs } });
}

/** What policy or a limit keeps from answering in the place of another model, or what the tenant lacks for it, ends no run. */
const mayNotStandIn = ({ origin, kind }: Refusal): boolean =>
  origin === 'policy' || origin === 'tenant_cap' || (origin === 'platform' && kind === 'denied');
