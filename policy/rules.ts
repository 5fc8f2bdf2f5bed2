import type { Clause, Expr, PatternElem, PolicyJson } from '@cedar-policy/cedar-wasm/nodejs';
import { MODEL_ACTION } from '../contracts/names';
import { type DestinationPattern, destinationPattern } from './destinations';
import { matches } from './globs';
import { approversOf } from './approval-terms';
import type { ModelEntry } from './profile';
import type { Approvers, Rule, RuleEffect } from './rule-fields';
import type { Vocabulary } from './vocabulary';

/** A rule as it is evaluated: its conditions in Cedar, and the actions it can concern. */
export interface CedarRule {
  readonly id: string;
  readonly effect: RuleEffect;
  /** Of rules that ask people, and of no others. */
  readonly approvers: Approvers | undefined;
  readonly actions: readonly string[];
  readonly conditions: readonly Clause[];
  /** Whether its author wrote some of the conditions: the others are known to be well typed. */
  readonly hasExpression: boolean;
}

/**
 * The actions that a rule can concern. Patterns of an allow, approve or suggest rule never reach model calls, which
 * `models.allow` alone allows; a forbid rule without `actions`, or with a pattern that matches it, forbids them too.
 * A suggest rule never reaches a read, of which nothing could be done later.
 */
export function actionsOf(rule: Rule, effects: Vocabulary['effects']): string[] {
  const patterns = rule.actions ?? ['*'];
  return [...effects].flatMap(([action, effect]) =>
    (rule.effect === 'forbid' || effect !== 'model') &&
    (rule.effect !== 'suggest' || effect !== 'read') &&
    patterns.some((pattern) => matches(pattern, action))
      ? [action]
      : [],
  );
}

/** A checked rule with its parsed expressions. */
export function cedarRule(
  rule: Rule,
  actions: readonly string[],
  when: Expr | undefined,
  unless: Expr | undefined,
): CedarRule {
  return {
    id: rule.id,
    effect: rule.effect,
    approvers: approversOf(rule),
    actions,
    conditions: conditionsOf(rule, when, unless),
    hasExpression: when !== undefined || unless !== undefined,
  };
}

/**
 * The conditions of a rule, who and where before its own expressions: Cedar stops at the first that does not hold,
 * so an expression can only fail for a call that the rest of the rule is about.
 */
function conditionsOf(rule: Rule, when: Expr | undefined, unless: Expr | undefined): Clause[] {
  const clauses: Clause[] = [];
  const must = (body: Expr): number => clauses.push({ kind: 'when', body });
  if (rule.agents) must(anyOf(rule.agents.map((pattern) => like(attribute(principal, 'id'), pattern))));
  if (rule.workspaces) must(anyOf(rule.workspaces.map((id) => like(attribute(context, 'workspace'), id))));
  // What permits is read narrowly and what forbids is read widely: see `wayTo`.
  const wide = rule.effect === 'forbid';
  if (rule.destinations) must(both(leaves, oneOf(rule.destinations, wide)));
  else if (!wide) must(usualWay);
  // A call that stays inside takes nothing out.
  if (rule.exceptDestinations) must(both(leaves, { '!': { arg: oneOf(rule.exceptDestinations, false) } }));
  if (rule.dataClasses)
    must(rule.effect === 'allow' ? carriesOnly(rule.dataClasses) : carriesAny(rule.dataClasses));
  if (when) must(when);
  if (unless) clauses.push({ kind: 'unless', body: unless });
  return clauses;
}

/** The rule that an entry of `models.allow` is. */
export function modelRule(index: number, { model, dataClasses }: ModelEntry): CedarRule {
  const conditions: Clause[] = [{ kind: 'when', body: like(attribute(context, 'model'), model) }];
  if (dataClasses) conditions.push({ kind: 'when', body: carriesOnly(dataClasses) });
  return {
    id: `models.allow[${index}]`,
    effect: 'allow',
    approvers: undefined,
    actions: [MODEL_ACTION],
    conditions,
    hasExpression: false,
  };
}

/** A rule as Cedar has it, for one action. */
export function policyOf(rule: CedarRule, action: string): PolicyJson {
  return {
    effect: rule.effect === 'forbid' ? 'forbid' : 'permit',
    principal: { op: 'is', entity_type: 'Agent' },
    action: { op: '==', entity: { type: 'Action', id: action } },
    resource: { op: 'is', entity_type: 'Workspace' },
    conditions: [...rule.conditions],
  };
}

const principal: Expr = { Var: 'principal' };
const context: Expr = { Var: 'context' };
const attribute = (left: Expr, attr: string): Expr => ({ '.': { left, attr } });
const equals = (left: Expr, value: string | number): Expr => ({ '==': { left, right: { Value: value } } });
const both = (left: Expr, right: Expr): Expr => ({ '&&': { left, right } });
const either = (left: Expr, right: Expr): Expr => ({ '||': { left, right } });

const leaves: Expr = { has: { left: context, attr: 'destination' } };
const own = attribute(context, 'connection');
const schemeIs = (scheme: string): Expr => equals(attribute(context, 'destinationScheme'), scheme);
const portIs = (port: number): Expr => equals(attribute(context, 'destinationPort'), port);

/** The call stays inside, goes to the tenant's own connection, or to https at its own port. */
const usualWay: Expr = either(own, either(schemeIs('none'), both(schemeIs('https'), portIs(443))));

/** The call goes to one of these. */
const oneOf = (destinations: readonly string[], wide: boolean): Expr =>
  anyOf(
    destinations.map((text) => {
      const pattern = destinationPattern(text);
      const host = like(attribute(context, 'destination'), pattern.host);
      const way = wayTo(pattern, wide);
      return way ? both(host, way) : host;
    }),
  );

/**
 * The ways that a destination speaks of. What it does not name is, widely read, any. Narrowly it is the operator's choice
 * for a connection, and https at its own port for an address out of arguments: nobody else has chosen another.
 */
function wayTo({ scheme, port }: DestinationPattern, wide: boolean): Expr | undefined {
  const named = [...(scheme ? [schemeIs(scheme)] : []), ...(port ? [portIs(port)] : [])];
  const [first, second] = named;
  if (first && second) return both(first, second);
  if (wide) return first;
  if (!first) return usualWay;
  const rest = scheme ? portIs(scheme === 'http' ? 80 : 443) : schemeIs('https');
  return both(first, either(own, rest));
}

const carried = attribute(context, 'dataClasses');
const setOf = (classes: readonly string[]): Expr => ({ Set: classes.map((name) => ({ Value: name })) });
/** What restricts holds as soon as one class is there. */
const carriesAny = (classes: readonly string[]): Expr => ({
  containsAny: { left: carried, right: setOf(classes) },
});
/** What permits holds for these classes and no other one beside them. */
const carriesOnly = (classes: readonly string[]): Expr => ({
  containsAll: { left: setOf(classes), right: carried },
});

function like(left: Expr, pattern: string): Expr {
  if (!pattern.includes('*')) return equals(left, pattern);
  const elements: PatternElem[] = pattern
    .replace(/\*+/g, '*')
    .split(/(\*)/)
    .filter((part) => part !== '')
    .map((part) => (part === '*' ? 'Wildcard' : { Literal: part }));
  return { like: { left, pattern: elements } };
}

/** As a tree of even depth: a chain of two hundred would be deeper than Cedar reads. */
function anyOf(terms: readonly Expr[]): Expr {
  const [first, second] = terms;
  if (first === undefined) return { Value: false };
  if (second === undefined) return first;
  const half = Math.ceil(terms.length / 2);
  return { '||': { left: anyOf(terms.slice(0, half)), right: anyOf(terms.slice(half)) } };
}
