import { setImmediate } from 'node:timers/promises';
import { type PolicyJson, type ValidationError, validate } from '@cedar-policy/cedar-wasm/nodejs';
import { digestOfTuple } from '../contracts/digest';
import type { CompiledPolicy } from '../contracts/policy-decision';
import { ChecksLeft, checkGrants, checkModels, checkRule, checkWaivers } from './checks';
import { policyFrom } from './decide';
import { type ParsedDocument, type ReadDocument, readDocuments } from './documents';
import type { RuleSet } from './engine';
import { checkFallbacks } from './fallback-checks';
import { type Mistake, orderMistakes, pathText } from './mistakes';
import { profileParts } from './profile';
import { type CedarRule, modelRule, policyOf } from './rules';
import { type Registry, type Vocabulary, schemaOf, vocabularyOf } from './vocabulary';

export type Compilation = { ok: true; policy: CompiledPolicy } | { ok: false; mistakes: Mistake[] };

export type CompileInput = { text: string; version: number } & Registry;

/**
 * Makes a policy of the text of one PolicyProfile document. Answers all its mistakes together: of form, of names
 * that the app does not have, of types in its expressions. Pure; never throws on what the text says.
 */
export const compileProfile = (input: CompileInput): Compilation => atOnce(compiling(input));

/** The same, a rule or an action at a time: between two, others in this process have their turn. */
export async function compileInTurns(input: CompileInput): Promise<Compilation> {
  const steps = compiling(input);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    await setImmediate();
  }
}

/** Work that may be interrupted wherever it yields. */
type Steps<T> = Generator<void, T>;

function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

function* compiling(input: CompileInput): Steps<Compilation> {
  const { read, mistakes } = readDocuments(input.text);
  const [first, ...others] = read;
  if (others.length > 0 || (first && first.kind !== 'PolicyProfile')) {
    const odd = others[0] ?? first;
    const place = odd?.locate([]) ?? { line: 1, column: 1 };
    mistakes.push({
      ...place,
      path: '',
      message: 'this is not one PolicyProfile document',
      remedy: 'give it alone',
    });
  }
  if (first?.kind !== 'PolicyProfile') return { ok: false, mistakes: orderMistakes(mistakes) };
  const vocabulary = vocabularyOf(input.actions);
  const checked = yield* check(first, vocabulary, input);
  mistakes.push(...checked.mistakes);
  if (mistakes.length > 0 || first.parsed?.kind !== 'PolicyProfile') {
    return { ok: false, mistakes: orderMistakes(mistakes) };
  }
  const { document } = first.parsed;
  return {
    ok: true,
    policy: policyFrom({
      version: input.version,
      profile: document.metadata.name,
      environments: document.environments,
      vocabulary,
      rules: new Map(checked.rules.map((rule) => [rule.id, rule])),
      slices: checked.slices,
      document,
    }),
  };
}

/**
 * Reads a text of documents and checks its profiles against the app as well: what `policy validate` and `publish`
 * ask, with all mistakes of all documents at the lines of this text.
 */
export function checkDocuments(
  text: string,
  registry: Registry,
): { ok: true; documents: ParsedDocument[] } | { ok: false; mistakes: Mistake[] } {
  const { read, mistakes } = readDocuments(text);
  const vocabulary = vocabularyOf(registry.actions);
  for (const document of read) {
    if (document.kind === 'PolicyProfile')
      mistakes.push(...atOnce(check(document, vocabulary, registry)).mistakes);
  }
  if (mistakes.length > 0) return { ok: false, mistakes: orderMistakes(mistakes) };
  return { ok: true, documents: read.flatMap(({ parsed }) => (parsed ? [parsed] : [])) };
}

/** Everything about a profile that its form alone does not say. Goes on past mistakes, on the rules that are right. */
function* check(
  document: ReadDocument,
  vocabulary: Vocabulary,
  registry: Registry,
): Steps<{ mistakes: Mistake[]; slices: Map<string, RuleSet>; rules: readonly CedarRule[] }> {
  const { raw, locate } = document;
  const { rules, models, fallbacks, secrets, waivers } = profileParts(raw);
  const mistakes: Mistake[] = [];
  const right: { rule: CedarRule; path: PropertyKey[] }[] = [];
  const checksLeft = new ChecksLeft();
  for (const part of rules) {
    yield;
    const checked = checkRule(part, { vocabulary, registry, locate, checksLeft });
    mistakes.push(...checked.mistakes);
    if (checked.rule) right.push({ rule: checked.rule, path: checked.path });
  }
  mistakes.push(...checkModels(models, { vocabulary, registry, locate }));
  mistakes.push(...checkFallbacks(fallbacks, models, locate));
  mistakes.push(...checkGrants(secrets, fallbacks, { vocabulary, registry, locate }));
  mistakes.push(...checkWaivers(waivers, { vocabulary, registry, locate }));

  if (checksLeft.spent) {
    const message = 'the conditions of these rules are too many for all the actions that they are about';
    const remedy = 'name the actions of rules with conditions, or write shorter ones';
    mistakes.push({ ...locate(['rules'], 'key'), path: 'rules', message, remedy });
    return { mistakes, slices: new Map(), rules: [] };
  }

  const all = [
    ...right.map(({ rule }) => rule),
    ...models.map(({ entry, index }) => modelRule(index, entry)),
  ];
  const slices = new Map<string, RuleSet>();
  for (const action of vocabulary.contexts.keys()) {
    yield;
    const slice = all.filter((rule) => rule.actions.includes(action));
    if (slice.length === 0) continue;
    const policies = Object.fromEntries(slice.map((rule) => [rule.id, policyOf(rule, action)]));
    const text = JSON.stringify(policies);
    const size = Math.max(slice.length, Math.ceil(text.length / PLAIN_RULE));
    slices.set(action, { key: digestOfTuple([text]), policies, size });
  }
  const types = yield* typeProblems(all, vocabulary);
  for (const { rule, path } of right) {
    for (const { message, remedy } of types(rule)) {
      mistakes.push({ ...locate(path), path: pathText(path), message, remedy });
    }
  }
  return { mistakes, slices, rules: all };
}

/** Characters of an ordinary rule as JSON: one with many hosts takes the memory of several. */
const PLAIN_RULE = 1_000;

interface TypeProblem {
  readonly message: string;
  readonly remedy: string;
}

/** Cedar's strict validation of what authors wrote, in the schema of each action that it is about, told by rule. */
function* typeProblems(
  rules: readonly CedarRule[],
  vocabulary: Vocabulary,
): Steps<(rule: CedarRule) => TypeProblem[]> {
  const found = new Map<string, Map<string, { problem: TypeProblem; actions: string[] }>>();
  const note = (ruleId: string, action: string, problem: TypeProblem): void => {
    const ofRule = found.get(ruleId) ?? new Map<string, { problem: TypeProblem; actions: string[] }>();
    found.set(ruleId, ofRule);
    const known = ofRule.get(problem.message);
    if (known) known.actions.push(action);
    else ofRule.set(problem.message, { problem, actions: [action] });
  };
  for (const [action, context] of vocabulary.contexts) {
    const written = rules.filter((rule) => rule.hasExpression && rule.actions.includes(action));
    if (written.length === 0) continue;
    yield;
    const policies = Object.fromEntries(written.map((rule) => [rule.id, policyOf(rule, action)]));
    const { errors, impossible } = validated(schemaOf(action, context), policies);
    for (const error of errors) note(error.policyId, action, inPlainWords(error));
    for (const id of impossible) note(id, action, NEVER);
  }
  return (rule) =>
    [...(found.get(rule.id)?.values() ?? [])].flatMap(({ problem, actions }) => {
      // A rule for many actions may well be idle for some of them; one that is idle for all was meant otherwise.
      if (problem === NEVER && actions.length < rule.actions.length) return [];
      const some = actions.length < rule.actions.length;
      const which = `${actions.slice(0, 3).join(', ')}${actions.length > 3 ? ', …' : ''}`;
      if (!some) return [problem];
      const absent = /^type error: attribute .* not found$/.test(problem.message);
      const remedy = absent
        ? 'ask first, as in context.args has x && …, or name the actions that have it'
        : problem.remedy;
      return [{ message: `${problem.message} (for ${which})`, remedy }];
    });
}

const NEVER: TypeProblem = {
  message: 'this rule can never apply: its conditions are false for every call',
  remedy: 'correct its conditions, or remove it',
};

function validated(
  schema: ReturnType<typeof schemaOf>,
  staticPolicies: Record<string, PolicyJson>,
): { errors: ValidationError[]; impossible: string[] } {
  const everyRule = (message: string): ValidationError[] =>
    Object.keys(staticPolicies).map((policyId) => ({
      policyId,
      error: { message, help: null, code: null, url: null, severity: null },
    }));
  try {
    const answer = validate({ schema, policies: { staticPolicies }, validationSettings: { mode: 'strict' } });
    if (answer.type === 'failure') {
      return {
        errors: everyRule(answer.errors[0]?.message ?? 'these rules cannot be checked'),
        impossible: [],
      };
    }
    const impossible = answer.validationWarnings.filter(({ error }) =>
      error.message.includes('policy is impossible'),
    );
    return { errors: answer.validationErrors, impossible: impossible.map(({ policyId }) => policyId) };
  } catch (error) {
    const message = `the policy engine cannot check this: ${error instanceof Error ? error.message : 'it failed'}`;
    return { errors: everyRule(message), impossible: [] };
  }
}

function inPlainWords({ error }: ValidationError): TypeProblem {
  const plain = (text: string): string =>
    text.replace(/for policy `[^`]*`, /g, '').replace(/ in context for Action::"[^"]*"/g, '');
  return {
    message: `type error: ${plain(error.message)}`,
    remedy: error.help
      ? plain(error.help)
      : 'correct the expression: docs/policies.md lists what it may name',
  };
}
