import type { Guard } from './guard-list';

const BOUNDS = 'activities/model-bounds.ts';
const FALLBACK = 'activities/model-fallback.ts';
const REST = 'activities/model-rest.ts';
const bounds = ['test/runs/model-bounds'];
const fallback = ['test/runs/model-fallback'];
const providers = ['test/runs/providers'];

/** What a model call may cost and who stands in for a model (promises Q2, P5 and Q4). */
export const MODEL_GUARDS: readonly Guard[] = [
  {
    name: 'the bound of a prompt is in bytes',
    file: BOUNDS,
    find: "Buffer.byteLength(JSON.stringify(prompt), 'utf8')",
    put: 'JSON.stringify(prompt).length',
    tests: bounds,
    titles: 'Q2 characters of several bytes',
  },
  {
    name: 'an input of nothing is not believed',
    file: BOUNDS,
    find: 'isCount(input) && input > 0 ? input',
    put: 'isCount(input) ? input',
    tests: bounds,
    titles: 'Q2 a provider that says|Q2 an answer without',
  },
  {
    name: 'words that cost no output are not believed',
    file: BOUNDS,
    find: 'isCount(output) && (output > 0 || empty) ? output',
    put: 'isCount(output) ? output',
    tests: bounds,
    titles: 'Q2 a provider that says|Q2 an answer without',
  },
  {
    name: 'a provider’s own sum that is more than its parts',
    file: BOUNDS,
    find: 'Math.max(outputTokens, total - inputTokens)',
    put: 'outputTokens',
    tests: bounds,
    titles: 'Q2 a provider that says',
  },
  {
    name: 'counts that nobody uses',
    file: BOUNDS,
    find: ' && value <= MOST_TOKENS;',
    put: ';',
    tests: bounds,
    titles: 'Q2 a provider that says',
  },
  {
    name: 'a part of a micro-dollar is a whole one',
    file: BOUNDS,
    find: '(parts + PER_PRICE - 1n) / PER_PRICE',
    put: 'parts / PER_PRICE',
    tests: bounds,
    titles: 'Q2 money',
  },
  {
    name: 'the bound of a model call is reserved in tokens',
    file: 'activities/gateway.ts',
    find: 'modelTokens: call.reserve.modelTokens + bound.modelTokens,',
    put: 'modelTokens: call.reserve.modelTokens,',
    tests: providers,
    titles: 'Q2 a bound is reserved',
  },
  {
    name: 'the bound of a model call is reserved in money',
    file: 'activities/gateway.ts',
    find: 'microUsd: call.reserve.microUsd + bound.microUsd,',
    put: 'microUsd: call.reserve.microUsd,',
    tests: providers,
    titles: 'Q2 a bound is reserved',
  },
  {
    name: 'a model in trouble is left alone',
    file: FALLBACK,
    find: 'let next: string | undefined = free(model) ? model :',
    put: 'let next: string | undefined = model.length > 0 ? model :',
    tests: fallback,
    titles: 'P5 Q4 a model whose provider',
  },
  {
    name: 'a stand-in in trouble is left alone',
    file: FALLBACK,
    find: '.filter((name) => !tried.has(name) && free(name));',
    put: '.filter((name) => !tried.has(name));',
    tests: fallback,
    titles: 'P5 Q4 a stand-in that rests',
  },
  {
    name: 'what keeps a stand-in back ends no run',
    file: FALLBACK,
    find: 'asked === model || !mayNotStandIn(answer.refusal)',
    put: 'answer.refusal.kind.length > 0',
    tests: fallback,
    titles: 'P5 a stand-in',
  },
  {
    name: 'what a budget says of the agent’s own model is the answer',
    file: FALLBACK,
    find: 'asked === model || !mayNotStandIn(answer.refusal)',
    put: '!mayNotStandIn(answer.refusal)',
    tests: fallback,
    titles: 'N3 what an operator',
  },
  {
    name: 'the answer of a model without a stand-in',
    file: FALLBACK,
    find: 'if (!another && asked === model) return answer;',
    put: '',
    tests: fallback,
    titles: 'N3 what an operator',
  },
  {
    name: 'a run waits for the first model that may be asked again',
    file: FALLBACK,
    find: 'Math.min(...waits)',
    put: 'Math.max(...waits)',
    tests: fallback,
    titles: 'Q4 where all',
  },
  {
    name: 'what a provider says of when to come back',
    file: REST,
    find: 'retryAfterMs ?? Math.min(',
    put: 'Math.min(',
    tests: fallback,
    titles: 'P5 Q4|Q4 where|P5 a resting',
  },
  {
    name: 'each tenant sees its own models in trouble',
    file: REST,
    find: '`${tenantId} ${environment} ${model}`',
    put: '`${tenantId.slice(0, 0)} ${environment} ${model}`',
    tests: fallback,
    titles: 'P5 what is seen of a model',
  },
  {
    name: 'a policy that names a stand-in no more',
    file: 'activities/model.ts',
    find: 'const version = (await store.policyText())?.version;',
    put: 'const version = 1;',
    tests: providers,
    titles: 'P5',
  },
];
