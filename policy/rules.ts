import type { Clause, Expr, PatternElem, PolicyJson } from '@cedar-policy/cedar-wasm/nodejs';
import { MODEL_ACTION } from '../contracts/names';
import { matches } from './globs';
import type { Rule } from './profile';

/** A rule as it is evaluated: its conditions in Cedar, and the actions it can concern. */
export interface CedarRule {
  readonly id: string;
  readonly effect: 'permit' | 'forbid';
  readonly actions: readonly string[];
  readonly conditions: readonly Clause[];
}

/**
 * The actions that a rule can concern. Patterns of an allow rule never reach model calls, which `models.allow`
 * alone allows; a forbid rule without `actions`, or with a pattern that matches it, forbids them too.
 */
export function actionsOf(rule: Rule, known: Iterable<string>): string[] {
  const patterns = rule.actions ?? ['*'];
  return [...known].filter(
    (action) =>
      (rule.effect === 'forbid' || action !== MODEL_ACTION) &&
      patterns.some((pattern) => matches(pattern, action)),
  );
}

/**
 * The conditions of a rule, who and where before its own expressions: Cedar stops at the first that does not hold,
 * so an expression can only fail for a call that the rest of the rule is about.
 */
export function conditionsOf(rule: Rule, when: Expr | undefined, unless: Expr | undefined): Clause[] {
  const clauses: Clause[] = [];
  const must = (body: Expr): number => clauses.push({ kind: 'when', body });
  if (rule.agents) must(anyOf(rule.agents.map((pattern) => like(attribute(principal, 'id'), pattern))));
  if (rule.workspaces) must(anyOf(rule.workspaces.map((id) => like(attribute(context, 'workspace'), id))));
  if (rule.destinations) {
    const destination = attribute(context, 'destination');
    const hosts = anyOf(rule.destinations.map((pattern) => like(destination, pattern)));
    must({ '&&': { left: { has: { left: context, attr: 'destination' } }, right: hosts } });
  }
  if (when) must(when);
  if (unless) clauses.push({ kind: 'unless', body: unless });
  return clauses;
}

/** The rule that an entry of `models.allow` is. */
export function modelRule(index: number, pattern: string): CedarRule {
  const conditions: Clause[] = [{ kind: 'when', body: like(attribute(context, 'model'), pattern) }];
  return { id: `models.allow[${index}]`, effect: 'permit', actions: [MODEL_ACTION], conditions };
}

/** A rule as Cedar has it, for one action. */
export function policyOf(rule: CedarRule, action: string): PolicyJson {
  return {
    effect: rule.effect,
    principal: { op: 'is', entity_type: 'Agent' },
    action: { op: '==', entity: { type: 'Action', id: action } },
    resource: { op: 'is', entity_type: 'Workspace' },
    conditions: [...rule.conditions],
  };
}

const principal: Expr = { Var: 'principal' };
const context: Expr = { Var: 'context' };
const attribute = (left: Expr, attr: string): Expr => ({ '.': { left, attr } });

function like(left: Expr, pattern: string): Expr {
  if (!pattern.includes('*')) return { '==': { left, right: { Value: pattern } } };
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
