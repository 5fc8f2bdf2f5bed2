/** Conditions at random, as trees: written out for the policy, and evaluated as they are by the independent evaluator. */

export type Text = { kind: 'text'; value: string } | { kind: 'attribute'; path: string };
export type Int =
  | { kind: 'int'; value: number }
  | { kind: 'attribute'; path: string }
  | { kind: '+' | '-' | '*'; left: Int; right: Int };
export type Bool =
  | { kind: '&&' | '||'; left: Bool; right: Bool }
  | { kind: 'not'; of: Bool }
  | { kind: 'if'; test: Bool; then: Bool; else: Bool }
  | { kind: 'has'; record: string; name: string }
  | { kind: 'is'; path: string }
  | { kind: 'compare'; sign: '<' | '<=' | '>' | '>=' | '==' | '!='; left: Int; right: Int }
  | { kind: 'same'; left: Text; right: Text }
  | { kind: 'like'; text: Text; pattern: string }
  | { kind: 'among'; values: string[]; text: Text }
  | { kind: 'classes'; how: 'contains' | 'containsAny' | 'containsAll'; classes: string[] };

/** A stream of choices that its seed fixes (mulberry32). */
export class Draw {
  constructor(private state: number) {}
  private next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }
  int(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }
  chance(part: number): boolean {
    return this.next() < part;
  }
  of<T>(...values: readonly T[]): T {
    return values[this.int(0, values.length - 1)] as T;
  }
  maybe<T>(part: number, draw: () => T): T | undefined {
    return this.chance(part) ? draw() : undefined;
  }
  /** One to three of them, each once, in any order. */
  some(...values: string[]): string[] {
    const rest = [...values];
    return Array.from({ length: Math.min(this.int(1, 3), rest.length) }, () =>
      rest.splice(this.int(0, rest.length - 1), 1).join(''),
    );
  }
}

export const CLASSES = ['pii', 'financial', 'public', 'internal'];
const PATTERNS = ['*', 'support*', '*a*', 'p-*', '*s*t*', 'main', '*.ok.example', 'pay*s', 'a*a'];
const WORDS = [
  'support',
  'finance',
  'main',
  'second',
  'p-1',
  'p-2',
  'passed',
  'prod',
  'ok.example',
  'final',
  'é"\\',
];
const ALWAYS = [
  'principal.id',
  'principal.class',
  'context.workspace',
  'context.environment',
  'context.effect',
].concat('context.reversible', 'context.requester.kind', 'context.requester.subject');
const SOMETIMES = [
  'context.facts.compliance',
  'context.destination',
  'context.system',
  'context.args.paymentId',
];

/** `context.facts has vip`, of the attribute's path. */
function present(path: string): Bool {
  const at = path.lastIndexOf('.');
  return { kind: 'has', record: path.slice(0, at), name: path.slice(at + 1) };
}
/** A test of what may be absent, behind the question whether it is there: nothing else is accepted. */
function guarded(draw: Draw, path: string, test: Bool): Bool {
  const there = present(path);
  if (draw.chance(0.7)) return { kind: '&&', left: there, right: test };
  return {
    kind: 'if',
    test: there,
    then: test,
    else: draw.chance(0.5) ? { kind: 'is', path: 'context.undo' } : there,
  };
}

function int(draw: Draw, attribute: string, depth: number): Int {
  if (depth > 0 && draw.chance(0.5)) {
    return {
      kind: draw.of('+', '-', '*', '*'),
      left: int(draw, attribute, depth - 1),
      right: int(draw, attribute, depth - 1),
    };
  }
  if (draw.chance(0.65)) return { kind: 'attribute', path: attribute };
  return { kind: 'int', value: draw.of(0, 1, 2, 7, 40, 1_000_003, 4_294_967_296, Number.MAX_SAFE_INTEGER) };
}

function text(draw: Draw): { path: string; text: Text; always: boolean } {
  const always = draw.chance(0.6);
  const path = always ? draw.of(...ALWAYS) : draw.of(...SOMETIMES);
  return { path, text: { kind: 'attribute', path }, always };
}

function leaf(draw: Draw): Bool {
  const kind = draw.of('int', 'int', 'text', 'text', 'text', 'is', 'has', 'classes');
  if (kind === 'int') {
    const path = draw.of('context.args.amountCents', 'context.args.amountCents', 'context.facts.score');
    const sign = draw.of('<', '<=', '>', '>=', '==', '!=');
    const left = int(draw, path, 2);
    return guarded(draw, path, { kind: 'compare', sign, left, right: int(draw, path, draw.int(0, 1)) });
  }
  if (kind === 'text') {
    const { path, text: asked, always } = text(draw);
    const how = draw.of('same', 'like', 'among');
    const test: Bool =
      how === 'same'
        ? { kind: 'same', left: asked, right: { kind: 'text', value: draw.of(...WORDS) } }
        : how === 'like'
          ? { kind: 'like', text: asked, pattern: draw.of(...PATTERNS) }
          : { kind: 'among', values: draw.some(...WORDS), text: asked };
    return always ? test : guarded(draw, path, test);
  }
  if (kind === 'is') {
    const vip = 'context.facts.vip';
    return draw.chance(0.5)
      ? { kind: 'is', path: 'context.undo' }
      : guarded(draw, vip, { kind: 'is', path: vip });
  }
  if (kind === 'has') return present(draw.of(...SOMETIMES, 'context.facts.vip', 'context.target'));
  const how = draw.of('contains', 'containsAny', 'containsAll');
  return {
    kind: 'classes',
    how,
    classes: how === 'contains' ? [draw.of(...CLASSES)] : draw.some(...CLASSES),
  };
}

/** A condition that is well typed, at most so deep. */
export function condition(draw: Draw, depth: number): Bool {
  if (depth === 0 || draw.chance(0.4)) return leaf(draw);
  const part = (): Bool => condition(draw, depth - 1);
  const kind = draw.of('&&', '||', '||', 'not', 'if');
  if (kind === 'not') return { kind, of: part() };
  if (kind === 'if') return { kind, test: part(), then: part(), else: part() };
  return { kind, left: part(), right: part() };
}

/** The expression as people would write it, every part in brackets. */
export function written(node: Bool | Int | Text): string {
  const word = (value: unknown): string => JSON.stringify(value);
  switch (node.kind) {
    case 'text':
      return word(node.value);
    case 'int':
      return String(node.value);
    case 'attribute':
    case 'is':
      return node.path;
    case 'not':
      return `!(${written(node.of)})`;
    case 'if':
      return `(if ${written(node.test)} then ${written(node.then)} else ${written(node.else)})`;
    case 'has':
      return `${node.record} has ${node.name}`;
    case 'like':
      return `${written(node.text)} like ${word(node.pattern)}`;
    case 'among':
      return `${word(node.values)}.contains(${written(node.text)})`;
    case 'classes':
      return `context.dataClasses.${node.how}(${word(node.how === 'contains' ? node.classes[0] : node.classes)})`;
    case 'compare':
      return `(${written(node.left)} ${node.sign} ${written(node.right)})`;
    case 'same':
      return `(${written(node.left)} == ${written(node.right)})`;
    default:
      return `(${written(node.left)} ${node.kind} ${written(node.right)})`;
  }
}
