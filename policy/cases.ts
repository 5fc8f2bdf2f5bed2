import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import { milliseconds } from '../contracts/duration';
import { hostOf, plainUrl, portOf } from '../contracts/http-url';
import { MODEL_ACTION } from '../contracts/names';
import type { CompiledPolicy, PolicyRequest } from '../contracts/policy-decision';
import { type CaseDocument, type Expected, type PolicyCases, readCases } from './case-document';
import { classesOf, classProblem } from './data-classes';
import { type Mistake, closest, orderMistakes, pathText, quote } from './mistakes';
import { type Outcome, needsOf, outcomeOf } from './outcome';
import type { Registry } from './vocabulary';

/** What a case is put into: the app, and the profile that it is about. */
export interface CaseGround extends Registry {
  readonly profile: string;
  readonly environments: readonly string[];
}

/** A case as the question that the gateway would put. */
export interface PolicyCase {
  readonly name: string;
  /** Where it stands in its file, from 1. */
  readonly line: number;
  readonly question: PolicyRequest;
  readonly expected: Expected;
}

/** What became of a case. */
export interface CaseResult {
  readonly case: PolicyCase;
  readonly got: Outcome;
  readonly passed: boolean;
}

/**
 * Reads a tenant's case file. Answers every case as a question, or all mistakes of all cases: of form, of names that the
 * app does not have, of arguments that the action would refuse before policy is asked. Pure; never throws on the text.
 */
export function parseCases(
  text: string,
  ground: CaseGround,
): { ok: true; cases: PolicyCase[] } | { ok: false; mistakes: Mistake[] } {
  const form = readCases(text);
  if (!form.ok) return form;
  const { document, locate } = form.read;
  const mistakes: Mistake[] = [];
  const at = (path: PropertyKey[], message: string, remedy: string): void =>
    void mistakes.push({ ...locate(path), path: pathText(path), message, remedy });
  if (document.profile !== ground.profile) {
    const message = `these cases are about the profile ${document.profile}, and the policy is ${ground.profile}`;
    at(['profile'], message, 'give the policy that they are about');
  }
  const cases = document.cases.flatMap((one, index) => {
    const wrong = (path: PropertyKey[], message: string, remedy: string): void =>
      at(['cases', index, ...path], message, remedy);
    const question = questionOf(one, document.given, ground, wrong);
    const { line } = locate(['cases', index]);
    return question ? [{ name: one.name, line, question, expected: one.expect }] : [];
  });
  return mistakes.length > 0 ? { ok: false, mistakes: orderMistakes(mistakes) } : { ok: true, cases };
}

/** Asks the policy each case, as the gateway would: rules, credential, read-back. A case passes if outcome and rules are those it names. */
export function runCases(
  policy: CompiledPolicy,
  cases: readonly PolicyCase[],
  registry: Registry,
): CaseResult[] {
  return cases.map((one) => {
    const got = outcomeOf(policy, one.question, needsOf(one.question, registry));
    const { outcome, rules } = one.expected;
    const passed = got.effect === outcome && sameNames(got.rules, rules) && sameTerms(got, one.expected);
    return { case: one, got, passed };
  });
}

function sameTerms({ approval }: Outcome, { approvers }: Expected): boolean {
  if (!approvers) return true;
  if (!approval) return false;
  const { roles, expiresAfter, notRequester } = approvers;
  const plain = (lists: readonly (readonly string[])[]): string =>
    JSON.stringify(lists.map((list) => JSON.stringify([...list].sort())).sort());
  return (
    (roles === undefined || plain(roles) === plain(approval.roles)) &&
    (expiresAfter === undefined || milliseconds(expiresAfter) === approval.expiresAfterMs) &&
    (notRequester === undefined || notRequester === approval.notRequester)
  );
}

const sameNames = (some: readonly string[], others: readonly string[]): boolean =>
  JSON.stringify([...new Set(some)].sort()) === JSON.stringify([...new Set(others)].sort());

type Wrong = (path: PropertyKey[], message: string, remedy: string) => void;

const ANYBODY = { kind: 'user', subject: 'somebody' } as const;

function questionOf(
  one: CaseDocument,
  given: PolicyCases['given'],
  ground: CaseGround,
  wrong: Wrong,
): PolicyRequest | undefined {
  let right = true;
  const say: Wrong = (...mistake) => {
    right = false;
    wrong(...mistake);
  };
  const agent = agentOf(one, given, ground, say);
  checkNames(one, ground, say);
  const isModel = one.action === MODEL_ACTION;
  const action = ground.actions.get(one.action);
  if (!action && !isModel) {
    const names = [...ground.actions.keys(), MODEL_ACTION];
    say(['action'], `this app has no action ${quote(one.action)}`, meant(one.action, names));
    return undefined;
  }
  const call = action ? toolCall(action, one, given, say) : modelCall(agent.model, one, given, say);
  if (!right || !call) return undefined;
  return {
    agentId: agent.id,
    agentClass: agent.class,
    workspaceId: one.workspace ?? given.workspace ?? 'main',
    environment: one.environment ?? given.environment ?? ground.environments[0] ?? 'prod',
    principal: one.requester ?? given.requester ?? ANYBODY,
    target: one.target ?? null,
    action: one.action,
    undo: one.undo,
    facts: one.facts,
    ...call,
  };
}

type OfAction =
  'effect' | 'reversible' | 'system' | 'destination' | 'endpoint' | 'model' | 'args' | 'dataClasses';

function toolCall(
  action: Action,
  one: CaseDocument,
  given: PolicyCases['given'],
  say: Wrong,
): Pick<PolicyRequest, OfAction> {
  const parsed = action.args.safeParse(one.args);
  for (const { path, message } of parsed.error?.issues ?? []) {
    const remedy = 'write whole arguments: a call with others is refused before policy is asked';
    say(['args', ...path], message, remedy);
  }
  if (one.model !== undefined) say(['model'], `${action.name} is no model call`, 'remove it');
  if (one.undo && (action.effect === 'read' || action.reversible === 'final'))
    say(['undo'], `${action.name} is never undone`, 'remove it');
  const args = parsed.data ?? {};
  const ofArguments = Object.keys(args)
    .filter((name) => args[name] !== undefined)
    .flatMap((name) => action.dataClasses[name] ?? []);
  const call = {
    effect: action.effect,
    reversible: action.effect === 'read' ? ('none' as const) : action.reversible,
    system: action.system,
    model: null,
    args,
    dataClasses: [...new Set([...ofArguments, ...one.dataClasses])].sort(),
  };
  if (action.destination === null) return { ...call, ...connectionOf(action.system, one, given, say) };
  if (one.destination !== undefined)
    say(['destination'], `the arguments of ${action.name} say where it goes`, 'remove it');
  return { ...call, ...(parsed.success ? wayTo(action.destination(args), false, ['args'], say) : NOWHERE) };
}

function modelCall(
  own: string | undefined,
  one: CaseDocument,
  given: PolicyCases['given'],
  say: Wrong,
): Pick<PolicyRequest, OfAction> | undefined {
  const model = one.model ?? own;
  if (model === undefined) {
    say(['model'], 'which model? The app does not have this agent', 'name it: provider/model');
    return undefined;
  }
  if (Object.keys(one.args).length > 0)
    say(['args'], 'rules cannot read what is sent to a model', 'remove them');
  const system = model.split('/')[0] ?? '';
  return {
    effect: 'model',
    reversible: 'none',
    system,
    ...connectionOf(system, one, given, say),
    model,
    args: {},
    dataClasses: [...new Set(one.dataClasses)].sort(),
  };
}

type Way = Pick<PolicyRequest, 'destination' | 'endpoint'>;
const NOWHERE: Way = { destination: null, endpoint: null };

/** Where the tenant's own connection to a system leads: what the case says, else what is given for all. */
function connectionOf(
  system: string | null,
  { action, destination }: CaseDocument,
  { connections }: PolicyCases['given'],
  say: Wrong,
): Way {
  if (system === null) {
    if (destination !== undefined) say(['destination'], `${action} stays inside`, 'remove it');
    return NOWHERE;
  }
  const known = Object.entries(connections).find(([name]) => name === system)?.[1];
  const text = destination ?? known;
  if (text === undefined) {
    const remedy = `name its host: destination, or given.connections.${system} for all cases`;
    say(['destination'], `${action} goes to ${system}, and nothing says where that is`, remedy);
    return NOWHERE;
  }
  return wayTo(text, true, ['destination'], say);
}

/** A host, with a scheme before it and a port after it where they are not https and its own. */
function wayTo(text: string, connection: boolean, path: PropertyKey[], say: Wrong): Way {
  const url = plainUrl(/^https?:/i.test(text) ? text : `https://${text}`);
  if (!url) {
    say(path, `${quote(text)} is no destination`, 'write a host, or http(s)://host:port, without user names');
    return NOWHERE;
  }
  const scheme = url.protocol === 'http:' ? 'http' : 'https';
  return { destination: hostOf(url), endpoint: { scheme, port: portOf(url), connection } };
}

function agentOf(
  one: CaseDocument,
  given: PolicyCases['given'],
  { agents }: CaseGround,
  say: Wrong,
): { id: string; class: string; model: string | undefined } {
  const id = one.agent ?? given.agent;
  const known: Agent | undefined = id === undefined ? undefined : agents.get(id);
  if (id === undefined) say(['agent'], 'which agent?', 'name it: agent, or given.agent for all cases');
  else if (known && one.agentClass !== undefined && one.agentClass !== known.class)
    say(['agentClass'], `${id} is of class ${known.class}`, 'remove it: the app says it');
  else if (!known && one.agentClass === undefined) {
    const remedy = `${meant(id, agents.keys())}; for one that the app does not have yet, name its agentClass`;
    say(['agent'], `this app has no agent ${quote(id)}`, remedy);
  }
  return { id: id ?? '', class: known?.class ?? one.agentClass ?? '', model: known?.model };
}

/** Facts and classes that nothing sets: rules would pass over them in silence. */
function checkNames(one: CaseDocument, { actions }: CaseGround, say: Wrong): void {
  const all = [...actions.values()];
  const facts = all.flatMap((action) => Object.keys(action.facts?.schema.shape ?? {}));
  for (const name of Object.keys(one.facts)) {
    if (!facts.includes(name))
      say(['facts', name], `no action of this app sets the fact ${quote(name)}`, meant(name, facts));
  }
  const classes = classesOf(all);
  for (const [position, name] of one.dataClasses.entries()) {
    const problem = classProblem(name, classes);
    if (problem) say(['dataClasses', position], problem.message, problem.remedy);
  }
}

function meant(name: string, known: Iterable<string>): string {
  const names = [...new Set(known)];
  const near = closest(name, names);
  return near ? `did you mean ${near}?` : `there is ${names.slice(0, 10).join(', ') || 'none'}`;
}
