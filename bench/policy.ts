import { cpus } from 'node:os';
import { performance } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { z } from 'zod';
import { digestOfTuple } from '../contracts/digest';
import type { CompiledPolicy, PolicyRequest } from '../contracts/policy-decision';
import { compileProfile } from '../policy/compile';
import { policyFrom } from '../policy/decide';
import { parsedSets, type RuleSet } from '../policy/engine';
import { readExpression } from '../policy/expressions';
import { Rule } from '../policy/rule-fields';
import { actionsOf, cedarRule, policyOf, type CedarRule } from '../policy/rules';
import { vocabularyOf } from '../policy/vocabulary';
import { defineApp } from '../tools/app';
import { defineAction } from '../tools/define-action';
import { defineAgent } from '../tools/define-agent';
import { publishToEffect } from './policy-publish';
import { median, quantile } from './statistics';

const NOUNS = [
  'ticket',
  'customer',
  'payment',
  'mail',
  'page',
  'note',
  'order',
  'parcel',
  'invoice',
  'contract',
];
const actions = NOUNS.flatMap((noun) =>
  ['read', 'write'].map((verb) =>
    defineAction({
      name: `${noun}.${verb}`,
      description: noun,
      effect: verb === 'read' ? 'read' : 'write',
      args: z.object({ id: z.string(), amount: z.int() }),
      result: z.object({}),
      system: null,
      timeout: '1s',
      run: () => Promise.resolve({}),
    }),
  ),
);
const agent = defineAgent({
  id: 'bench',
  class: 'bench',
  model: 'models/none',
  instructions: 'none',
  actions: ['ticket.read'],
  budget: { steps: 1, maxOutputTokens: 1 },
});
const app = defineApp({ name: 'bench', actions, agents: [agent] });
const vocabulary = vocabularyOf(app.actions);

const asked = (action: string): PolicyRequest => ({
  agentId: 'bench',
  agentClass: 'bench',
  workspaceId: 'main',
  environment: 'bench',
  principal: { kind: 'service', subject: 'bench' },
  target: null,
  action,
  effect: action.endsWith('.read') ? 'read' : 'write',
  reversible: action.endsWith('.read') ? 'none' : 'final',
  undo: false,
  system: null,
  destination: null,
  model: null,
  args: { id: 'r-1', amount: 700 },
  facts: {},
  dataClasses: [],
});

/**
 * What a decision costs: by how many rules a policy has of which five are about the action; by how many rules name no
 * action; in memory per tenant; and how soon a published policy decides, on every host. Arguments: how many decisions, and
 * which parts, if not all.
 */
export async function policyBench(args: readonly string[]): Promise<void> {
  const decisions = Number(args.find((arg) => /^\d+$/.test(arg)) ?? 2_000);
  const named = args.filter((arg) => Object.hasOwn(PARTS, arg));
  say(`policy: Node ${process.version}, ${cpus().length} cores`);
  for (const [name, part] of Object.entries(PARTS))
    if (named.length === 0 || named.includes(name)) await part(decisions);
}

/** In this order: what has been compiled before would count as memory. */
const PARTS: Readonly<Record<string, (decisions: number) => void | Promise<void>>> = {
  memory: () => {
    say('memory of a process, by tenants with twenty rules of their own each, asked about every action:');
    for (const tenants of [1, 100, 1_000]) memory(tenants);
    kept.splice(0);
  },
  deciding: (decisions) => {
    say(`${decisions} decisions each, by rules in all, five of them about the action (aim: within 2×):`);
    compare(
      [10, 1_000, 10_000].map((count) => [`${count} rules`, policyWith(fewAbout(count))] as const),
      decisions,
    );
    say('and by rules that name no action, each evaluated for every call:');
    compare(
      [1, 10, 100, 1_000].map((count) => [`${count} rules`, policyWith(aboutAll(count))] as const),
      decisions,
    );
  },
  compiling: () => {
    say('compiling a document, the host standing still meanwhile:');
    for (const count of [10, 100, 500]) compiling(count);
  },
  publishing: publishToEffect,
};

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Five rules about `ticket.read`, the last of which allows; the others about the other actions, evenly. */
function fewAbout(count: number): string[] {
  const others = actions.map(({ name }) => name).filter((name) => name !== 'ticket.read');
  const rest = Array.from({ length: count - 5 }, (_, index) =>
    ruleText(index, 'forbid', others[index % others.length]),
  );
  const own = Array.from({ length: 4 }, (_, index) => ruleText(count + index, 'forbid', 'ticket.read'));
  return [...rest, ...own, `{"id":"yes","effect":"allow","actions":["ticket.read"]}`];
}

const aboutAll = (count: number): string[] => [
  ...Array.from({ length: count }, (_, index) => ruleText(index, 'forbid', undefined)),
  `{"id":"yes","effect":"allow","actions":["ticket.read"]}`,
];

/** A rule that holds for no call of this bench, and is only found not to once its condition is evaluated. */
const ruleText = (index: number, effect: string, action: string | undefined): string =>
  JSON.stringify({
    id: `r${index}`,
    effect,
    ...(action === undefined ? {} : { actions: [action] }),
    agents: ['b*'],
    when: `context.args has amount && context.args.amount == ${1_000 + index}`,
  });

/** A policy of any size: documents are bounded to what a host compiles in a moment, deciding is not. */
function policyWith(texts: readonly string[]): CompiledPolicy {
  const rules = texts.map((text): CedarRule => {
    const rule = Rule.parse(JSON.parse(text));
    const reading = rule.when === undefined ? undefined : readExpression(rule.when);
    if (reading && !reading.ok) throw new Error(reading.message);
    return cedarRule(rule, actionsOf(rule, vocabulary.effects), reading?.expr, undefined);
  });
  const slices = new Map<string, RuleSet>();
  for (const action of vocabulary.contexts.keys()) {
    const slice = rules.filter((rule) => rule.actions.includes(action));
    const policies = Object.fromEntries(slice.map((rule) => [rule.id, policyOf(rule, action)]));
    slices.set(action, { key: digestOfTuple([JSON.stringify(policies)]), policies, size: slice.length });
  }
  return policyFrom({
    version: 1,
    profile: 'bench',
    environments: ['bench'],
    vocabulary,
    rules: new Map(rules.map((rule) => [rule.id, rule])),
    slices,
    document: {
      secrets: [],
      models: { allow: [], fallback: [] },
      onUnknownOutcome: 'stop',
      onKill: { compensate: false },
      readBackWaived: [],
    },
  });
}

/** Times the policies in turns, so that what disturbs one disturbs the others. */
function compare(policies: readonly (readonly [string, CompiledPolicy])[], decisions: number): void {
  const question = asked('ticket.read');
  const times = policies.map((): number[] => []);
  for (let round = -200; round < decisions; round += 1) {
    for (const [index, [name, policy]] of policies.entries()) {
      const begun = performance.now();
      const { effect } = policy.decide(question);
      const took = performance.now() - begun;
      if (effect !== 'allow') throw new Error(`${name} denies what it should allow`);
      if (round >= 0) times[index]?.push(took);
    }
  }
  const shortest = Math.min(...times.map(median));
  for (const [index, [name]] of policies.entries()) {
    const own = times[index] ?? [];
    const us = (ms: number): string => (ms * 1_000).toFixed(0).padStart(6);
    say(
      `  ${name.padEnd(14)} median ${us(median(own))} µs · p95 ${us(quantile(own, 0.95))} µs · p99 ${us(quantile(own, 0.99))} µs · ${(median(own) / shortest).toFixed(2)}×`,
    );
  }
}

/** A document around rules; they stay apart from those of other documents by a number. */
const documentOf = (name: string, rules: readonly string[]): string =>
  [
    'apiVersion: bulkhead/v1',
    'kind: PolicyProfile',
    `metadata: { name: ${name} }`,
    'environments: [bench]',
    'rules:',
  ]
    .concat(rules.map((rule) => `  - ${rule}`))
    .join('\n');

function compiledFrom(name: string, rules: readonly string[]): CompiledPolicy {
  const result = compileProfile({ text: documentOf(name, rules), version: 1, ...app });
  if (!result.ok) throw new Error(result.mistakes[0]?.message);
  return result.policy;
}

function compiling(count: number): void {
  const times = Array.from({ length: 5 }, () => {
    const begun = performance.now();
    compiledFrom('bench', fewAbout(count));
    return performance.now() - begun;
  });
  say(`  ${String(count).padEnd(5)} rules   median ${median(times).toFixed(0)} ms`);
}

const kept: CompiledPolicy[] = [];
let before: NodeJS.MemoryUsage | undefined;

/** What is garbage is nobody's memory. */
const collectGarbage = (): void => {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
};

/** Goes on from the tenants that are there already. The engine itself, and one tenant to warm it, are there before. */
function memory(tenants: number): void {
  if (!before) {
    const warm = tenantOf(-1);
    for (const { name } of actions) warm.decide(asked(name));
    collectGarbage();
    before = process.memoryUsage();
  }
  while (kept.length < tenants) kept.push(tenantOf(kept.length));
  for (const policy of kept) for (const { name } of actions) policy.decide(asked(name));
  collectGarbage();
  const now = process.memoryUsage();
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const each = ((now.rss - before.rss) / tenants / 1_024).toFixed(0);
  const { rules, sets } = parsedSets.usage;
  say(
    `  ${String(tenants).padEnd(5)} tenants resident ${mib(now.rss - before.rss)} more (${each} KiB each), heap ${mib(now.heapUsed - before.heapUsed)} more, ${rules} rules parsed in ${sets} sets`,
  );
}

/** Twenty rules like nobody else's. */
function tenantOf(index: number): CompiledPolicy {
  const rules = actions.map(({ name }, at) =>
    ruleText((index + 2) * 100 + at, at % 2 === 0 ? 'allow' : 'forbid', name),
  );
  return compiledFrom('tenant', rules);
}
