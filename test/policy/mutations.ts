import { app } from '../../examples/support-desk/app';
import { matches } from '../../policy/globs';

/** A profile as plain JSON: mutations know the names of fields and nothing of their meaning. */
export type Json = Record<string, unknown>;
export interface Mutant {
  readonly operator: string;
  /** Which rule or entry, and how: `large-refund: > becomes >=`. */
  readonly what: string;
  readonly profile: Json;
}

const list = (value: unknown): Json[] => (Array.isArray(value) ? (value as Json[]) : []);
const strings = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
const nameOf = (entry: Json, index: number): string =>
  [entry['id'], entry['model'], entry['capability']].find((name) => typeof name === 'string') ??
  String(index);

/** The profile with one entry of one of its lists replaced, or left out. */
function withEntry(profile: Json, at: 'rules' | 'models' | 'secrets', index: number, entry?: Json): Json {
  const replaced = (entries: Json[]): Json[] =>
    entries.flatMap((old, position) => (position !== index ? [old] : entry ? [entry] : []));
  if (at === 'models')
    return { ...profile, models: { allow: replaced(list((profile['models'] as Json)['allow'])) } };
  return { ...profile, [at]: replaced(list(profile[at])) };
}

const without = (entry: Json, field: string): Json =>
  Object.fromEntries(Object.entries(entry).filter(([name]) => name !== field));

type OfRule = (rule: Json) => { how: string; rule: Json | undefined }[];

const APPROVERS = { roles: ['operator'] };
/** Names that a list is widened by, beside the star: a workspace is named in full. */
const MORE: Readonly<Record<string, string>> = { workspaces: 'main', dataClasses: 'internal' };
const LISTS = ['agents', 'actions', 'workspaces', 'destinations', 'dataClasses', 'exceptDestinations'];

/** Every operator on a rule. The names are those that the report of survivors uses. */
const ON_RULES: Readonly<Record<string, OfRule>> = {
  'drop a rule': () => [{ how: 'dropped', rule: undefined }],
  'change the effect': (rule) =>
    ['allow', 'forbid', 'approve', 'suggest']
      .filter((effect) => effect !== rule['effect'])
      .map((effect) => {
        const bare = without(rule, 'approvers');
        const asks = effect === 'approve' || effect === 'suggest';
        return {
          how: effect,
          rule: { ...bare, effect, ...(asks && { approvers: rule['approvers'] ?? APPROVERS }) },
        };
      }),
  'drop when or unless': (rule) =>
    ['when', 'unless']
      .filter((field) => field in rule)
      .map((field) => ({ how: field, rule: without(rule, field) })),
  'negate when or unless': (rule) =>
    [
      ['when', 'unless'],
      ['unless', 'when'],
    ].flatMap(([field = '', other = '']) =>
      field in rule && !(other in rule)
        ? [{ how: `${field} becomes ${other}`, rule: { ...without(rule, field), [other]: rule[field] } }]
        : [],
    ),
  'change an expression': (rule) =>
    ['when', 'unless'].flatMap((field) =>
      typeof rule[field] === 'string'
        ? expressions(rule[field]).map((text) => ({ how: text, rule: { ...rule, [field]: text } }))
        : [],
    ),
  'narrow a list': (rule) =>
    LISTS.flatMap((field) => {
      const entries = strings(rule[field]);
      return entries.length < 2
        ? []
        : entries.map((entry) => ({
            how: `${field} without ${entry}`,
            rule: { ...rule, [field]: entries.filter((other) => other !== entry) },
          }));
    }),
  'widen a list': (rule) =>
    LISTS.filter((field) => field in rule).map((field) => {
      const more = MORE[field] ?? '*';
      return { how: `${field} with ${more}`, rule: { ...rule, [field]: [...strings(rule[field]), more] } };
    }),
  'drop a condition': (rule) =>
    LISTS.filter((field) => field in rule).map((field) => ({ how: field, rule: without(rule, field) })),
  'change the approvers': (rule) => {
    const approvers = rule['approvers'] as Json | undefined;
    if (!approvers) return [];
    const roles = strings(approvers['roles']);
    const changed = (how: string, change: Json): { how: string; rule: Json } => ({
      how,
      rule: { ...rule, approvers: { ...approvers, ...change } },
    });
    return [
      changed('notRequester', { notRequester: approvers['notRequester'] === false }),
      changed('roles with anybody', { roles: [...roles, 'anybody'] }),
      ...(roles.length < 2 ? [] : roles).map((role) =>
        changed(`roles without ${role}`, { roles: roles.filter((other) => other !== role) }),
      ),
      changed('expiresAfter', { expiresAfter: '999h' }),
    ];
  },
};

/** An expression with one of its numbers, operators, words or parts changed. */
function expressions(text: string): string[] {
  const comparisons = ['<', '<=', '>', '>=', '==', '!='];
  const changed = [...text.matchAll(/"[^"]*"|\d+|[<>]=?|[!=]=|&&|\|\|/g)].flatMap((match) => {
    const [token] = match;
    const others = token.startsWith('"')
      ? [`"${token.slice(1, -1)}_"`]
      : /^\d/.test(token)
        ? [String(Number(token) - 1), String(Number(token) + 1)]
        : token === '&&' || token === '||'
          ? [token === '&&' ? '||' : '&&']
          : comparisons.filter((other) => other !== token);
    return others.map((other) => text.slice(0, match.index) + other + text.slice(match.index + token.length));
  });
  const parts = text.split(' && ');
  const shorter =
    parts.length < 2 ? [] : parts.map((_, index) => parts.filter((_part, at) => at !== index).join(' && '));
  return [...changed, ...shorter];
}

/** Every mutant of a profile that differs in one place. */
export function mutantsOf(profile: Json): Mutant[] {
  const mutants: Mutant[] = [];
  for (const [index, rule] of list(profile['rules']).entries()) {
    for (const [operator, change] of Object.entries(ON_RULES)) {
      for (const { how, rule: changed } of change(rule))
        mutants.push({
          operator,
          what: `${nameOf(rule, index)}: ${how}`,
          profile: withEntry(profile, 'rules', index, changed),
        });
    }
  }
  const models = list((profile['models'] as Json | undefined)?.['allow']);
  for (const [index, entry] of models.entries()) {
    const put = (operator: string, changed?: Json): void =>
      void mutants.push({
        operator,
        what: `models: ${nameOf(entry, index)}`,
        profile: withEntry(profile, 'models', index, changed),
      });
    put('drop a model');
    put('widen a model', { ...entry, model: '*' });
    const classes = strings(entry['dataClasses']);
    if (classes.length > 0) put('drop a model’s classes', without(entry, 'dataClasses'));
    if (classes.length > 1)
      for (const name of classes)
        put('narrow a model’s classes', { ...entry, dataClasses: classes.filter((other) => other !== name) });
  }
  for (const [index, entry] of list(profile['secrets']).entries()) {
    const put = (operator: string, changed?: Json): void =>
      void mutants.push({
        operator,
        what: `secrets: ${nameOf(entry, index)}`,
        profile: withEntry(profile, 'secrets', index, changed),
      });
    put('drop a secret');
    put('widen a secret’s agents', { ...entry, agents: [...strings(entry['agents']), '*'] });
  }
  return mutants;
}

/** Why mutants are left out: each decides every question that can be put as the profile itself does. */
export const SAME_BY_CONSTRUCTION = {
  'the same actions':
    'No call of an action that the app does not have reaches policy, so lists of actions that match the same actions of the app are the same list.',
  'nobody else to use it':
    'A credential is asked for after the rules have let the call through. Where every rule that can let such a call through is for agents that the entry of `secrets` names already, naming more agents there changes nothing.',
} as const;

/** Which of {@link SAME_BY_CONSTRUCTION} holds of a mutant, if one does. */
export function sameByConstruction(
  profile: Json,
  mutant: Mutant,
): keyof typeof SAME_BY_CONSTRUCTION | undefined {
  if (JSON.stringify(closed(profile)) === JSON.stringify(closed(mutant.profile))) return 'the same actions';
  return mutant.operator === 'widen a secret’s agents' && onlyMoreForNobody(profile, mutant.profile)
    ? 'nobody else to use it'
    : undefined;
}

const actionsMatching = (patterns: unknown): string[] =>
  [...app.actions.keys(), 'model.generate'].filter((name) =>
    strings(patterns).some((pattern) => matches(pattern, name)),
  );

/** The profile with its patterns of actions replaced by what they match. */
const closed = (profile: Json): Json => ({
  ...profile,
  rules: list(profile['rules']).map((rule) =>
    'actions' in rule ? { ...rule, actions: actionsMatching(rule['actions']) } : rule,
  ),
});

function onlyMoreForNobody(profile: Json, mutant: Json): boolean {
  const wider = list(mutant['secrets']);
  return list(profile['secrets']).every((grant, index) => {
    if (JSON.stringify(grant) === JSON.stringify(wider[index])) return true;
    const needing = [...app.actions.values()].filter(({ secret }) => secret === grant['capability']);
    if (needing.length === 0) return false;
    const granted = list(profile['secrets'])
      .filter((other) => other['capability'] === grant['capability'])
      .flatMap((other) => strings(other['agents']));
    return list(profile['rules']).every((rule) => {
      const reaches = needing.some(({ name }) => actionsMatching(rule['actions']).includes(name));
      if (rule['effect'] === 'forbid' || !reaches) return true;
      const agents = strings(rule['agents']);
      return agents.length > 0 && agents.every((pattern) => granted.includes(pattern));
    });
  });
}
