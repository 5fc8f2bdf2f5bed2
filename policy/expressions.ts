import { type Expr, policyToJson } from '@cedar-policy/cedar-wasm/nodejs';
import { closest, quote } from './mistakes';
import { type Field, type RecordShape, type Shape, isWhole } from './shapes';
import { AGENT } from './vocabulary';

/**
 * Brackets within brackets, every `if` counted as one, and operators in all. Cedar's text parser recurses: past about
 * a hundred brackets or a thousand operators its stack overflows, and the engine is lost for the whole process.
 */
const MAX_BRACKETS = 20;
const MAX_OPERATORS = 200;
/** Operators within operators, two levels of JSON each: Cedar's JSON reader refuses more than 128, the rule around included. */
const MAX_LEVELS = 48;

export type Reading = { ok: true; expr: Expr } | { ok: false; message: string; remedy: string };

/**
 * Parses a Cedar expression, and nothing but one expression: text that would close the clause and open another
 * rule is refused. Never throws on what the text says.
 */
export function readExpression(text: string): Reading {
  const refuse = (message: string, remedy: string): Reading => ({ ok: false, message, remedy });
  const shorter = 'split the rule in two, or compare with a set: ["a", "b"].contains(…)';
  const size = sizeOf(text);
  if (size.brackets > MAX_BRACKETS) return refuse('this expression is nested too deeply', shorter);
  if (size.operators > MAX_OPERATORS) return refuse('this expression has too many parts', shorter);
  const parsed = policyToJson(`permit(principal, action, resource) when {\n${text}\n};`);
  if (parsed.type === 'failure') {
    const error = parsed.errors[0];
    const message = (error?.message ?? 'this is no Cedar expression').replace(
      'failed to parse policy from string: ',
      '',
    );
    return refuse(
      `not a Cedar expression: ${message}`,
      error?.help ?? 'see docs/policies.md, and quote it if YAML reads it otherwise',
    );
  }
  const { conditions, annotations } = parsed.json;
  const [only] = conditions;
  if (conditions.length !== 1 || only?.kind !== 'when' || annotations) {
    return refuse('this is more than one expression', 'write one expression, without when { } around it');
  }
  if (levels(only.body) > MAX_LEVELS) return refuse('this expression has too many parts', shorter);
  if (hasInexactNumber(only.body)) {
    return refuse(
      'a number here is beyond what can be compared exactly',
      'use numbers up to 9007199254740991',
    );
  }
  return { ok: true, expr: only.body };
}

const TOKEN = /\/\/[^\n\r]*|"(?:[^"\\]|\\.)*"|[([{]|[)\]}]|\bif\b|[.!*+<>=&|-]+|\b(?:in|is|has|like)\b/gs;

/** Counted outside of strings and comments, which are told apart as Cedar's own lexer does. */
function sizeOf(text: string): { brackets: number; operators: number } {
  let [depth, deepest, ifs, operators] = [0, 0, 0, 0];
  for (const [token] of text.matchAll(TOKEN)) {
    if (token.startsWith('"') || token.startsWith('//')) continue;
    if ('([{'.includes(token)) depth += 1;
    else if (')]}'.includes(token)) depth = Math.max(0, depth - 1);
    else if (token === 'if') ifs += 1;
    // A run such as `!!!` or `--` counts by its length.
    else operators += token.length;
    deepest = Math.max(deepest, depth);
  }
  return { brackets: deepest + ifs, operators };
}

type Node = Readonly<Record<string, unknown>>;
const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null;

function levels(node: unknown): number {
  let [deepest, rest] = [0, [{ node, level: 1 }]];
  for (let next = rest.pop(); next; next = rest.pop()) {
    if (!isNode(next.node)) continue;
    deepest = Math.max(deepest, next.level);
    // `{op: {left, right}}` is one part of an expression in two levels of JSON.
    const level = next.level + 0.5;
    rest = rest.concat(Object.values(next.node).map((child) => ({ node: child, level })));
  }
  return deepest;
}

function hasInexactNumber(node: unknown): boolean {
  if (typeof node === 'number') return !Number.isSafeInteger(node);
  return isNode(node) && Object.values(node).some(hasInexactNumber);
}

/** What is wrong with the names in an expression, for one action. */
export interface NameProblem {
  /** `context.args.amount`; the same problem has the same path for every action. */
  readonly path: string;
  /** `unreadable` is wrong wherever it is met; `unknown` only if no action of the rule knows the name. */
  readonly kind: 'unknown' | 'unreadable';
  readonly message: string;
  readonly remedy: string;
}

/**
 * Names in an expression that Cedar's own checker lets pass: to it, `has` of a name that does not exist is merely
 * false, so a slip of the pen in a forbid rule, or an argument that rules cannot read, would forbid nothing.
 */
export function nameProblems(expr: Expr, context: RecordShape): NameProblem[] {
  const roots = new Map<string, RecordShape>([
    ['context', context],
    ['principal', AGENT],
  ]);
  const problems: NameProblem[] = [];
  const walk = (node: unknown, compared: boolean): void => {
    if (!isNode(node)) return;
    const path = pathOf(node);
    if (path === undefined) {
      for (const child of Object.values(node)) walk(child, true);
      return;
    }
    const problem = pathProblem(path.names, roots, path.has, compared);
    if (problem) problems.push(problem);
  };
  walk(expr, true);
  return problems;
}

/** The names of `a.b.c`, of `a has b` and of `a has b.c`; `undefined` for a node that is none of these. */
function pathOf(node: Node): { names: string[]; has: boolean } | undefined {
  if (typeof node['Var'] === 'string') return { names: [node['Var']], has: false };
  const access = node['.'] ?? node['has'];
  if (!isNode(access)) return undefined;
  const { left, attr } = access;
  const rest = (Array.isArray(attr) ? attr : [attr]).map(String);
  const before = isNode(left) ? pathOf(left) : undefined;
  const names = before && !before.has ? [...before.names, ...rest] : ['', ...rest];
  return { names, has: node['has'] !== undefined };
}

function pathProblem(
  names: readonly string[],
  roots: ReadonlyMap<string, RecordShape>,
  has: boolean,
  compared: boolean,
): NameProblem | undefined {
  const [root = '', ...rest] = names;
  if (root === '') {
    const message = 'an attribute can only be taken of context or principal by its full path';
    return {
      path: message,
      kind: 'unreadable',
      message,
      remedy: 'write the path in full, as context.args.amountCents',
    };
  }
  let shape: Shape | undefined = roots.get(root);
  let path = root;
  for (const name of rest) {
    // Of anything but a record Cedar's checker says what is wrong.
    if (shape?.kind !== 'record') return undefined;
    const { fields, leftOut }: RecordShape = shape;
    const why = leftOut.get(name);
    const full = `${path}.${name}`;
    if (why !== undefined) {
      return {
        path: full,
        kind: 'unreadable',
        message: `rules cannot read ${full}: ${why}`,
        remedy: 'compare another attribute',
      };
    }
    const field: Field | undefined = fields.get(name);
    if (!field) {
      const near = closest(name, fields.keys());
      const remedy = near
        ? `did you mean ${path}.${near}?`
        : `there is ${[...fields.keys()].join(', ') || 'nothing'}`;
      return {
        path: full,
        kind: 'unknown',
        message: `there is no ${path}.${quote(name).slice(1, -1)}`,
        remedy,
      };
    }
    shape = field.shape;
    path = full;
  }
  if (compared && !has && shape?.kind === 'record' && !isWhole(shape)) {
    const message = `${path} cannot be compared as a whole: it has fields that rules cannot read`;
    return { path, kind: 'unreadable', message, remedy: 'compare its fields one by one' };
  }
  return undefined;
}
