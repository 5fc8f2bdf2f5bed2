import type { Expr } from '@cedar-policy/cedar-wasm/nodejs';
import { MODEL_ACTION } from '../contracts/names';
import { classProblem, classesNamed } from './data-classes';
import { type NameProblem, nameProblems, readExpression } from './expressions';
import { matches } from './globs';
import { type Mistake, closest, pathText, quote } from './mistakes';
import type { ProfileParts } from './profile';
import { type CedarRule, actionsOf, cedarRule } from './rules';
import type { Registry, Vocabulary } from './vocabulary';
import type { Locate } from './yaml-text';

interface Ground {
  readonly vocabulary: Vocabulary;
  readonly registry: Registry;
  readonly locate: Locate;
}

/**
 * Characters of the conditions of a profile, each counted for every action that its rule is about: there it is
 * type-checked, about two seconds in all, and a worker that compiles a profile does nothing else meanwhile.
 */
const MAX_CHECKED = 500_000;
/** What is left of it, over all rules of one profile; once below zero, conditions are no longer looked into. */
export class ChecksLeft {
  private left = MAX_CHECKED;

  get spent(): boolean {
    return this.left < 0;
  }
  take(size: number): boolean {
    this.left -= size;
    return !this.spent;
  }
}

/**
 * Checks the names and expressions of one rule. With mistakes, or if it is not whole, there is no `rule`; `path` is
 * where what Cedar says of the rule's types is to be shown.
 */
export function checkRule(
  { rule, index, whole }: ProfileParts['rules'][number],
  { vocabulary, registry, locate, checksLeft }: Ground & { checksLeft: ChecksLeft },
): { rule?: CedarRule; path: PropertyKey[]; mistakes: Mistake[] } {
  const mistakes: Mistake[] = [];
  const at = (path: PropertyKey[], message: string, remedy: string): void => {
    const full = ['rules', index, ...path];
    mistakes.push({ ...locate(full), path: pathText(full), message, remedy });
  };
  for (const [position, pattern] of (rule.agents ?? []).entries()) {
    const remedy = unmatched(pattern, registry.agents.keys(), 'agent');
    if (remedy) at(['agents', position], `no agent of this app matches ${quote(pattern)}`, remedy);
  }
  for (const [position, pattern] of (rule.actions ?? []).entries()) {
    if (
      rule.effect !== 'forbid' &&
      matches(pattern, MODEL_ACTION) &&
      !matchesAny(pattern, registry.actions.keys())
    ) {
      const message = `${rule.effect === 'suggest' ? 'a' : 'an'} ${rule.effect} rule cannot name model calls`;
      at(['actions', position], message, 'name the model in models.allow');
      continue;
    }
    const remedy = unmatched(pattern, [...registry.actions.keys(), MODEL_ACTION], 'action');
    if (remedy) at(['actions', position], `no action of this app matches ${quote(pattern)}`, remedy);
  }

  for (const [position, name] of (rule.dataClasses ?? []).entries()) {
    const problem = classProblem(name, vocabulary.dataClasses);
    if (problem) at(['dataClasses', position], problem.message, problem.remedy);
  }

  const actions = actionsOf(rule, vocabulary.effects);
  if (rule.effect === 'suggest' && actions.length === 0 && mistakes.length === 0 && rule.actions) {
    const remedy = 'name writes, or write effect: approve';
    at(['actions'], 'a read cannot be suggested: nothing of it is left to be done later', remedy);
  }
  const read = (field: 'when' | 'unless'): Expr | undefined => {
    const text = rule[field];
    if (text === undefined) return undefined;
    const reading = readExpression(text);
    if (!reading.ok) {
      at([field], reading.message, reading.remedy);
      return undefined;
    }
    if (!checksLeft.take(text.length * actions.length)) return reading.expr;
    // Of a rule whose actions are wrong it cannot be said which names it may use.
    if (whole || rule.actions) {
      for (const { message, remedy } of namesWrong(reading.expr, actions, vocabulary))
        at([field], message, remedy);
    }
    for (const name of classesNamed(reading.expr)) {
      const problem = classProblem(name, vocabulary.dataClasses);
      if (problem) at([field], problem.message, problem.remedy);
    }
    return reading.expr;
  };
  const when = read('when');
  const unless = read('unless');

  const only = rule.when === undefined ? 'unless' : rule.unless === undefined ? 'when' : undefined;
  const path: PropertyKey[] = only && rule[only] !== undefined ? ['rules', index, only] : ['rules', index];
  if (mistakes.length > 0 || !whole) return { path, mistakes };
  return { rule: cedarRule(rule, actions, when, unless), path, mistakes };
}

/** A name is wrong if no action of the rule knows it, or if rules cannot read it in one that has it. */
function namesWrong(expr: Expr, actions: readonly string[], vocabulary: Vocabulary): NameProblem[] {
  const unknown = new Map<string, { problem: NameProblem; count: number }>();
  const unreadable = new Map<string, NameProblem>();
  for (const action of actions) {
    const context = vocabulary.contexts.get(action);
    if (!context) continue;
    const problems = new Map(nameProblems(expr, context).map((problem) => [problem.path, problem]));
    for (const [path, problem] of problems) {
      if (problem.kind === 'unreadable') {
        const which = actions.length > 1 ? ` (for ${action})` : '';
        unreadable.set(path, { ...problem, message: problem.message + which });
      } else {
        unknown.set(path, { problem, count: (unknown.get(path)?.count ?? 0) + 1 });
      }
    }
  }
  const nowhere = [...unknown.values()]
    .filter(({ count }) => count === actions.length)
    .map(({ problem }) => problem);
  return [...unreadable.values(), ...nowhere];
}

/** Checks that the entries of `models.allow` name data classes there are. */
export function checkModels(models: ProfileParts['models'], { vocabulary, locate }: Ground): Mistake[] {
  return models.flatMap(({ index, entry }) =>
    (entry.dataClasses ?? []).flatMap((name, position) => {
      const problem = classProblem(name, vocabulary.dataClasses);
      const path = ['models', 'allow', index, 'dataClasses', position];
      return problem ? [{ ...locate(path), path: pathText(path), ...problem }] : [];
    }),
  );
}

/** Checks that the entries of `secrets` name agents there are, and capabilities that something could ask for. */
export function checkGrants(
  secrets: ProfileParts['secrets'],
  fallbacks: ProfileParts['fallbacks'],
  { registry, locate }: Ground,
): Mistake[] {
  const declared = [...registry.actions.values()].flatMap(({ secret }) => (secret === null ? [] : [secret]));
  const models = [
    ...[...registry.agents.values()].map(({ model }) => model),
    ...fallbacks.flatMap(({ fallback }) => fallback.to),
  ];
  const providers = new Set(models.map((model) => model.split('/')[0]));
  return secrets.flatMap(({ index, grant }) => {
    const mistakes: Mistake[] = [];
    const at = (path: PropertyKey[], message: string, remedy: string): void => {
      const full = ['secrets', index, ...path];
      mistakes.push({ ...locate(full), path: pathText(full), message, remedy });
    };
    const { capability } = grant;
    if (!declared.includes(capability) && !providers.has(capability.split(':')[0])) {
      const near = closest(capability, declared);
      const remedy = near ? `did you mean ${near}?` : `there is ${declared.join(', ') || 'none'}`;
      at(['capability'], `no action of this app needs ${quote(capability)}`, remedy);
    }
    for (const [position, pattern] of grant.agents.entries()) {
      const remedy = unmatched(pattern, registry.agents.keys(), 'agent');
      if (remedy) at(['agents', position], `no agent of this app matches ${quote(pattern)}`, remedy);
    }
    return mistakes;
  });
}

/** Checks that the entries of `readBackWaived` name high-risk writes there are. */
export function checkWaivers(waivers: ProfileParts['waivers'], { registry, locate }: Ground): Mistake[] {
  const names = [...registry.actions.values()].flatMap(({ name, effect }) =>
    effect === 'high_risk_write' ? [name] : [],
  );
  return waivers.flatMap(({ index, waiver: { action } }) => {
    if (names.includes(action)) return [];
    const path = ['readBackWaived', index, 'action'];
    const near = closest(action, names);
    return [
      {
        ...locate(path),
        path: pathText(path),
        message: `no high-risk write of this app is called ${quote(action)}`,
        remedy: near ? `did you mean ${near}?` : `there is ${names.join(', ') || 'none'}`,
      },
    ];
  });
}

const matchesAny = (pattern: string, names: Iterable<string>): boolean =>
  [...names].some((name) => matches(pattern, name));

/** What to do about a pattern that matches nothing; `undefined` for one that matches. */
function unmatched(pattern: string, names: Iterable<string>, what: string): string | undefined {
  const known = [...names];
  if (matchesAny(pattern, known)) return undefined;
  const near = closest(pattern, known);
  if (near) return `did you mean ${near}?`;
  const shown = known.slice(0, 10).join(', ') + (known.length > 10 ? ', …' : '');
  return `name an ${what} there is: ${shown || 'this app has none'}`;
}
