import { MODEL_ACTION } from '../contracts/names';
import type { CompiledPolicy, PolicyDecision, PolicyRequest } from '../contracts/policy-decision';
import { type RuleSet, parsedSets } from './engine';
import { canonicalHost, matches } from './globs';
import { termsOf } from './approval-terms';
import type { PolicyProfile } from './profile';
import { DEFAULT_DENY, EVALUATION_ERROR, SECRET_NOT_GRANTED } from './rule-fields';
import type { CedarRule } from './rules';
import { Unjudgeable, cedarValue } from './shapes';
import { AGENT, type Vocabulary, contextOf } from './vocabulary';

/** A checked profile, ready to decide. */
export interface DecidingParts {
  readonly version: number;
  readonly profile: string;
  readonly environments: readonly string[];
  readonly vocabulary: Vocabulary;
  /** All rules by id, in the order of the document, `models.allow` after them. */
  readonly rules: ReadonlyMap<string, Pick<CedarRule, 'effect' | 'approvers'>>;
  /** By action: every rule that can concern it. */
  readonly slices: ReadonlyMap<string, RuleSet>;
  /** What else the document says, as it says it. */
  readonly document: Pick<
    PolicyProfile,
    'secrets' | 'models' | 'onUnknownOutcome' | 'onKill' | 'readBackWaived'
  >;
}

/** Makes the policy that answers from these parts. Its functions never throw: what cannot be judged is denied. */
export function policyFrom(parts: DecidingParts): CompiledPolicy {
  const { version, profile, document } = parts;
  // Not the order of an object's keys: a rule may be called `10`. Worked out once: a call is judged by a few rules of many.
  const places = new Map([...parts.rules.keys()].map((id, index) => [id, index]));
  const fallbacks = new Map(document.models.fallback.map(({ model, to }) => [model, to]));
  const waived = new Set<string>(document.readBackWaived.map(({ action }) => action));
  const decision = (
    effect: PolicyDecision['effect'],
    rules: readonly string[],
    message: string,
    approval: PolicyDecision['approval'] = null,
  ): PolicyDecision => ({
    effect,
    rules,
    policyVersion: version,
    message: `${message} (policy ${profile}, version ${version})`,
    approval,
  });
  return {
    version,
    profile,
    decide: (request) => {
      try {
        return judge(request, parts, places, decision);
      } catch (error) {
        // Also an engine that failed: its message may hold what it was given, so only ours is told.
        const why = error instanceof Unjudgeable ? error.message : 'the policy engine failed on it';
        return decision('deny', [EVALUATION_ERROR], `this call cannot be judged, so it is denied: ${why}`);
      }
    },
    mayUseSecret: (agentId, capability) => {
      const index = document.secrets.findIndex(
        (grant) =>
          grant.capability === capability && grant.agents.some((pattern) => matches(pattern, agentId)),
      );
      return index < 0
        ? decision('deny', [SECRET_NOT_GRANTED], 'no entry of secrets gives this agent this capability')
        : decision('allow', [`secrets[${index}]`], `secrets[${index}] gives this agent ${capability}`);
    },
    fallbacksOf: (model) => fallbacks.get(model) ?? [],
    onUnknownOutcome: document.onUnknownOutcome,
    compensateOnKill: document.onKill.compensate,
    readBackWaived: (action) => waived.has(action),
  };
}

type Answer = (
  effect: PolicyDecision['effect'],
  rules: readonly string[],
  message: string,
  approval?: PolicyDecision['approval'],
) => PolicyDecision;

function judge(
  request: PolicyRequest,
  parts: DecidingParts,
  places: ReadonlyMap<string, number>,
  answer: Answer,
): PolicyDecision {
  const { vocabulary, slices } = parts;
  if (!parts.environments.includes(request.environment)) {
    return answer(
      'deny',
      [DEFAULT_DENY],
      `this policy is for ${parts.environments.join(', ')} and no other environment`,
    );
  }
  const shape = vocabulary.contexts.get(request.action);
  if (!shape) return answer('deny', [DEFAULT_DENY], 'this app has no such action');
  if (vocabulary.effects.get(request.action) !== request.effect) {
    throw new Unjudgeable(`it is put as a ${request.effect}, which ${request.action} is not`);
  }
  const destination = request.destination === null ? undefined : canonicalHost(request.destination);
  if (request.destination !== null && destination === undefined)
    throw new Unjudgeable('its destination is no plain host');
  const agent = cedarValue(AGENT, { id: request.agentId, class: request.agentClass }, 'principal');
  const context = cedarValue(shape, contextOf(request, destination), 'context');

  const slice = slices.get(request.action);
  const what = request.action === MODEL_ACTION ? 'this model call' : request.action;
  if (!slice) return answer('deny', [DEFAULT_DENY], `no rule allows ${what}`);
  const principal = { type: 'Agent', id: request.agentId };
  const reply = parsedSets.ask(slice, {
    principal,
    action: { type: 'Action', id: request.action },
    resource: { type: 'Workspace', id: request.workspaceId },
    context: context as Record<string, typeof context>,
    entities: [{ uid: principal, attrs: agent as Record<string, typeof agent>, parents: [] }],
  });
  if (reply.type === 'failure') throw new Error('Cedar refused the question');

  const { decision, diagnostics } = reply.response;
  // Of the document, which an object's keys have not: a rule may be called `10`.
  const inOrder = (ids: readonly string[]): string[] =>
    [...ids].sort((a, b) => (places.get(a) ?? 0) - (places.get(b) ?? 0));
  const reasons = inOrder(diagnostics.reason);
  // Cedar passes over a rule that fails, and would allow where a forbid could not be evaluated.
  if (diagnostics.errors.length > 0) {
    const failed = inOrder(diagnostics.errors.map((error) => error.policyId));
    const forbids = decision === 'deny' ? reasons : [];
    const message = `${what} is denied: ${list(failed)} could not be evaluated for it`;
    return answer('deny', [EVALUATION_ERROR, ...failed, ...forbids], message);
  }
  if (decision === 'allow') return permitted(reasons, what, parts, answer);
  if (reasons.length > 0) return answer('deny', reasons, `${list(reasons)} forbids ${what}`);
  const near = inOrder(Object.keys(slice.policies)).filter((id) => parts.rules.get(id)?.effect !== 'forbid');
  const but = near.length > 0 ? `: the conditions of ${list(near)} do not hold for it` : '';
  return answer('deny', [DEFAULT_DENY], `no rule allows ${what} here${but}`);
}

/** The strongest of what the rules say that hold, none of which forbids (promise P8). */
function permitted(
  reasons: readonly string[],
  what: string,
  { rules }: DecidingParts,
  answer: Answer,
): PolicyDecision {
  const holding = reasons.map((id) => {
    const rule = rules.get(id);
    if (!rule) throw new Error('a rule that decided is not one of this policy');
    return { id, ...rule };
  });
  const of = (effect: CedarRule['effect']): string[] =>
    holding.flatMap((rule) => (rule.effect === effect ? [rule.id] : []));
  // Of a suggestion too, every rule that asks people is kept to: a stronger rule beside it loosens nothing.
  const terms = (): PolicyDecision['approval'] =>
    termsOf(holding.flatMap(({ id, approvers }) => (approvers ? [{ id, approvers }] : [])));

  const suggest = of('suggest');
  if (suggest.length > 0) {
    const message = `${list(suggest)} lets ${what} be suggested and not done`;
    return answer('suggest', suggest, message, terms());
  }
  const approve = of('approve');
  if (approve.length > 0) {
    const message = `${list(approve)} lets ${what} happen once it is approved`;
    return answer('approve', approve, message, terms());
  }
  const allow = of('allow');
  return answer('allow', allow, `${list(allow)} allows ${what}`);
}

const LISTED = 5;
function list(ids: readonly string[]): string {
  const more = ids.length > LISTED ? ` and ${ids.length - LISTED} more` : '';
  return ids.slice(0, LISTED).join(', ') + more;
}
