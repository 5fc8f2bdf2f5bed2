import { ParsedSets, type RuleSet } from '../../policy/engine';
import { parsedSets } from '../../policy/engine';
import { compiled, profile, question } from './sample';

const set = (key: string, size: number, effect: 'permit' | 'forbid' = 'permit'): RuleSet => ({
  key,
  size,
  policies: Object.fromEntries(
    Array.from({ length: size }, (_, index) => [
      `${key}-${index}`,
      { effect, principal: { op: 'All' }, action: { op: 'All' }, resource: { op: 'All' }, conditions: [] },
    ]),
  ),
});
const call = {
  principal: { type: 'Agent', id: 'a' },
  action: { type: 'Action', id: 'x' },
  resource: { type: 'Workspace', id: 'w' },
  context: {},
  entities: [],
};
const reasons = (pool: ParsedSets, rules: RuleSet): string[] => {
  const answer = pool.ask(rules, call);
  return answer.type === 'success' ? answer.response.diagnostics.reason.sort() : [];
};

test('P10 many versions alive at once: each is asked by its own rules, within a bounded number of parsed sets', () => {
  const pool = new ParsedSets(10);
  const versions = Array.from({ length: 40 }, (_, version) => set(`v${version}`, 1 + (version % 3)));
  for (let turn = 0; turn < 3; turn++) {
    for (const version of versions)
      expect(reasons(pool, version)).toEqual(Object.keys(version.policies).sort());
  }
  expect(pool.usage.rules).toBeLessThanOrEqual(10);
  expect(pool.usage.ids).toBeLessThanOrEqual(10);
});

test('P10 the set asked for longest ago gives its place up; sets of the same content share one', () => {
  const pool = new ParsedSets(3);
  for (const key of ['a', 'b', 'c', 'a', 'd']) reasons(pool, set(key, 1));
  expect(pool.usage).toEqual({ sets: 3, rules: 3, ids: 3 });
  reasons(pool, set('a', 1));
  expect(pool.usage).toEqual({ sets: 3, rules: 3, ids: 3 });
  expect(reasons(pool, set('b', 1, 'forbid'))).toEqual(['b-0']);
});

test('P10 a set larger than the pool is held alone; one that cannot be parsed is an error and costs no place', () => {
  const pool = new ParsedSets(2);
  expect(reasons(pool, set('big', 5))).toHaveLength(5);
  const broken: RuleSet = {
    key: 'broken',
    size: 1,
    policies: { x: { ...set('x', 1).policies['x-0'], conditions: 'no' } as never },
  };
  for (let turn = 0; turn < 3; turn++) expect(() => pool.ask(broken, call)).toThrow();
  expect(pool.usage).toMatchObject({ sets: 0, rules: 0, ids: 1 });
  expect(reasons(pool, set('a', 1))).toEqual(['a-0']);
});

test('P10 publishing again and again grows nothing: a slice that did not change is not parsed again', () => {
  const same = '{ id: read, effect: allow, actions: [ticket.read] }';
  const before = parsedSets.usage;
  for (let version = 1; version <= 200; version++) {
    const policy = compiled(
      profile([same, `{ id: other, effect: forbid, actions: [web.fetch], workspaces: [w${version}] }`]),
      version,
    );
    expect(policy.decide(question())).toMatchObject({ rules: ['read'], policyVersion: version });
  }
  expect(parsedSets.usage.sets - before.sets).toBe(1);
});
