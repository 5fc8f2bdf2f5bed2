import { throughFallbacks, type Asking } from '../../activities/model-fallback';
import { RestingModels } from '../../activities/model-rest';
import type { CallAnswer } from '../../contracts/calls';
import { Environment, TenantId } from '../../contracts/ids';
import type { CompiledPolicy } from '../../contracts/policy-decision';
import type { Refusal } from '../../contracts/refusal';
import { mintScope } from '../../contracts/scope-mint';

const scope = mintScope(TenantId.parse('acme'), Environment.parse('test'), 'envelope');
const done: CallAnswer<unknown> = { kind: 'done', value: null, ref: '0.0', digest: 'd' as never, seq: 1 };
const no = (
  kind: Refusal['kind'],
  origin: Refusal['origin'],
  more: Partial<Refusal> = {},
): CallAnswer<unknown> => ({
  kind,
  refusal: { kind, origin, rule: 'r', rules: ['r'], message: 'm', ...more },
  seq: 1,
});
const down = (retryAfterMs?: number) =>
  no('provider_degraded', 'provider', retryAfterMs === undefined ? {} : { retryAfterMs });

/** Models a, b and c, of which b and c stand in for a; what each answers, in turn. */
function world(
  answers: Record<string, CallAnswer<unknown>[]>,
  fallbacks: readonly string[] = ['m/b', 'm/c'],
) {
  let now = 0;
  const rest = new RestingModels(() => now);
  const asked: string[] = [];
  const told: boolean[] = [];
  const policy = { fallbacksOf: (model: string) => (model === 'm/a' ? fallbacks : []) } as CompiledPolicy;
  const asking: Asking = {
    model: 'm/a',
    resting: {
      left: (model) => rest.left(scope, model),
      trouble: (model, ms) => rest.trouble(scope, model, ms),
      answered: (model) => rest.answered(scope, model),
    },
    fallbacks: () => Promise.resolve(fallbacks),
    ask: (model, another) => {
      asked.push(model);
      told.push(another(policy));
      const answer = answers[model]?.shift();
      return answer ? Promise.resolve(answer) : Promise.reject(new Error(`${model} was not to be asked`));
    },
  };
  return { asked, told, ask: () => throughFallbacks(asking), pass: (ms: number) => (now += ms) };
}

test('P5 Q4 a model whose provider is in trouble is stood in for, in the order of the policy, and left alone meanwhile', async () => {
  const { ask, asked, told, pass } = world({
    'm/a': [down(), done],
    'm/b': [down(), done],
    'm/c': [done, done],
  });
  expect(await ask()).toBe(done);
  expect(asked).toEqual(['m/a', 'm/b', 'm/c']);
  expect(told).toEqual([true, true, true]);
  // Both rest for five seconds.
  expect(await ask()).toBe(done);
  expect(asked.slice(3)).toEqual(['m/c']);
  pass(5_000);
  expect(await ask()).toBe(done);
  expect(asked.slice(4)).toEqual(['m/a']);
});

test('P5 Q4 a stand-in that rests is passed over, too, also where the model itself is asked again before', async () => {
  const { ask, asked, pass } = world({
    'm/a': [down(1_000), down(1_000)],
    'm/b': [down(60_000)],
    'm/c': [done, done],
  });
  await ask();
  pass(1_000);
  expect(await ask()).toBe(done);
  expect(asked.slice(3)).toEqual(['m/a', 'm/c']);
});

test('P5 what is seen of a model in trouble is one tenant’s, in one environment', () => {
  const rest = new RestingModels(() => 0);
  rest.trouble(scope, 'm/a', 60_000);
  for (const [tenant, environment, left] of [
    ['acme', 'test', 60_000],
    ['globex', 'test', 0],
    ['acme', 'prod', 0],
  ] as const) {
    const other = mintScope(TenantId.parse(tenant), Environment.parse(environment), 'envelope');
    expect([tenant, environment, rest.left(other, 'm/a')]).toEqual([tenant, environment, left]);
  }
});

test('Q4 where all of them are in trouble the run waits for the first that may be asked again', async () => {
  const { ask } = world({ 'm/a': [down(60_000)], 'm/b': [down(40_000)], 'm/c': [down(90_000)] });
  expect(await ask()).toMatchObject({ kind: 'provider_degraded', refusal: { retryAfterMs: 40_000 } });
  const soon = world({ 'm/a': [down(60_000)], 'm/b': [down()], 'm/c': [down()] });
  await expect(soon.ask()).rejects.toMatchObject({ type: 'ProviderUnavailable', nextRetryDelay: 5_000 });
});

test('P5 a stand-in that policy, a limit or a missing connection keeps back leaves the trouble what it was', async () => {
  for (const kept of [no('denied', 'policy'), no('throttled', 'tenant_cap'), no('denied', 'platform')]) {
    const { ask, asked } = world({ 'm/a': [down(60_000)], 'm/b': [kept], 'm/c': [kept] });
    expect(await ask()).toMatchObject({ kind: 'provider_degraded', refusal: { retryAfterMs: 60_000 } });
    expect(asked).toEqual(['m/a', 'm/b', 'm/c']);
  }
});

test('P5 a resting model is asked all the same where nothing may stand in for it', async () => {
  const denied = no('denied', 'policy');
  const { ask, asked } = world({ 'm/a': [down(60_000), done], 'm/b': [done, denied], 'm/c': [denied] });
  await ask();
  expect(await ask()).toBe(done);
  expect(asked).toEqual(['m/a', 'm/b', 'm/b', 'm/c', 'm/a']);
});

test('N3 what an operator, a budget or a fault says is the answer; so is any answer of a model without a stand-in', async () => {
  const killed = no('killed', 'control');
  expect(await world({ 'm/a': [killed] }).ask()).toBe(killed);
  expect(await world({ 'm/a': [down(), done], 'm/b': [killed] }).ask()).toBe(killed);
  const spent = no('budget_exceeded', 'tenant_cap');
  expect(await world({ 'm/a': [spent] }).ask()).toBe(spent);
  const exhausted = no('failed', 'provider', { rule: 'attempts_exhausted' });
  expect(await world({ 'm/a': [down()], 'm/b': [exhausted] }).ask()).toBe(exhausted);
  const late = down(30_000);
  const alone = world({ 'm/a': [late] }, []);
  expect(await alone.ask()).toBe(late);
  expect(alone.told).toEqual([false]);
});
