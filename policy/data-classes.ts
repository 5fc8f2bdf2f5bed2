import type { Action } from '../contracts/action';
import type { Expr } from '@cedar-policy/cedar-wasm/nodejs';
import { closest, quote } from './mistakes';

/** Classes that a document may name although no action of the app declares them: what is not worth a class of its own. */
const BUILT_IN = ['public', 'internal'];

/** Every class that a call of the app can carry, and the built-in ones. */
export function classesOf(actions: Iterable<Action>): ReadonlySet<string> {
  const classes = new Set(BUILT_IN);
  for (const { dataClasses, resultClasses } of actions) {
    for (const name of [...Object.values(dataClasses).flat(), ...resultClasses]) classes.add(name);
  }
  return classes;
}

/**
 * What is wrong with the name of a class; `undefined` for one there is. A slip of the pen in a forbid rule would forbid
 * nothing.
 */
export function classProblem(
  name: string,
  known: ReadonlySet<string>,
): { message: string; remedy: string } | undefined {
  if (known.has(name)) return undefined;
  const near = closest(name, known);
  return {
    message: `no action of this app declares the data class ${quote(name)}`,
    remedy: near ? `did you mean ${near}?` : `there is ${[...known].join(', ')}`,
  };
}

type Node = Readonly<Record<string, unknown>>;
const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null;
const COMPARISONS = ['contains', 'containsAll', 'containsAny', '==', '!='];

/** The names that an expression compares `context.dataClasses` with, as far as it writes them out. */
export function classesNamed(expr: Expr): string[] {
  const names = new Set<string>();
  const walk = (node: unknown): void => {
    if (!isNode(node)) return;
    for (const operator of COMPARISONS) {
      const sides = node[operator];
      if (!isNode(sides)) continue;
      const { left, right } = sides;
      if (isClasses(left)) for (const name of literals(right)) names.add(name);
      else if (isClasses(right)) for (const name of literals(left)) names.add(name);
    }
    for (const child of Object.values(node)) walk(child);
  };
  walk(expr);
  return [...names];
}

function isClasses(node: unknown): boolean {
  const access = isNode(node) ? node['.'] : undefined;
  if (!isNode(access) || access['attr'] !== 'dataClasses') return false;
  const { left } = access;
  return isNode(left) && left['Var'] === 'context';
}

function literals(node: unknown): string[] {
  if (!isNode(node)) return [];
  const { Value: value, Set: members } = node;
  if (typeof value === 'string') return [value];
  if (Array.isArray(value)) return value.filter((member) => typeof member === 'string');
  return Array.isArray(members) ? members.flatMap(literals) : [];
}
