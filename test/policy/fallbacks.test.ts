import { compiled, mistakesOf, profile } from './sample';

const models = (allow: string, fallback: string): string =>
  `models: { allow: [${allow}], fallback: [${fallback}] }`;
const BOTH = '{ model: "openai/*" }, { model: local/tiny }';

test('P5 fallbacks are named by model, in their order; of any other model there are none', () => {
  const policy = compiled(
    profile([], models(BOTH, '{ model: openai/gpt-x, to: [openai/small, local/tiny] }')),
  );
  expect(policy.fallbacksOf('openai/gpt-x')).toEqual(['openai/small', 'local/tiny']);
  expect(policy.fallbacksOf('openai/small')).toEqual([]);
  expect(compiled(profile([])).fallbacksOf('openai/gpt-x')).toEqual([]);
});

test.each<[string, string, string, string, string]>([
  [
    'a model that nothing allows',
    BOTH,
    '{ model: mistral/x, to: [local/tiny] }',
    'models.fallback[0].model',
    'no entry of models.allow allows "mistral/x"',
  ],
  [
    'a fallback that nothing allows',
    BOTH,
    '{ model: openai/x, to: [local/other] }',
    'models.fallback[0].to[0]',
    'no entry of models.allow allows "local/other"',
  ],
  [
    'a fallback that sees less data than the model',
    '{ model: openai/x, dataClasses: [pii, financial] }, { model: local/tiny, dataClasses: [pii] }',
    '{ model: openai/x, to: [local/tiny] }',
    'models.fallback[0].to[0]',
    '"local/tiny" may not be asked with pii, financial together',
  ],
  [
    'a fallback that sees some data where the model sees all',
    '{ model: openai/x }, { model: local/tiny, dataClasses: [pii] }',
    '{ model: openai/x, to: [local/tiny] }',
    'models.fallback[0].to[0]',
    'any data',
  ],
  ['itself', BOTH, '{ model: openai/x, to: [openai/x] }', 'models.fallback[0].to[0]', 'its own fallback'],
  [
    'one twice',
    BOTH,
    '{ model: openai/x, to: [local/tiny, local/tiny] }',
    'models.fallback[0].to[1]',
    'named twice',
  ],
  [
    'two lists of one model',
    BOTH,
    '{ model: openai/x, to: [local/tiny] }, { model: openai/x, to: [openai/y] }',
    'models.fallback[1].model',
    'there are two fallbacks of "openai/x"',
  ],
  ['none', BOTH, '{ model: openai/x, to: [] }', 'models.fallback[0].to', 'an empty list'],
  ['a pattern', BOTH, '{ model: openai/x, to: ["openai/*"] }', 'models.fallback[0].to[0]', 'provider/model'],
  [
    'a field there is not',
    BOTH,
    '{ model: openai/x, to: [openai/y], when: x }',
    'models.fallback[0].when',
    '',
  ],
])('P5 P10 refused in a fallback: %s, with its place', (_what, allow, fallback, path, message) => {
  const text = profile([], models(allow, fallback));
  const mistakes = mistakesOf(text);
  expect(mistakes).toEqual([expect.objectContaining({ path, message: expect.stringContaining(message) })]);
  expect(text.split('\n')[(mistakes[0]?.line ?? 0) - 1]).toContain('fallback');
});

test('P5 two narrow entries are as good as a wide one where each stands for one; a credential of a fallback’s provider may be granted', () => {
  const narrow =
    '{ model: openai/x, dataClasses: [pii] }, { model: openai/x, dataClasses: [financial] }, { model: spare/y, dataClasses: [pii, financial] }';
  const policy = compiled(
    profile(
      [],
      `${models(narrow, '{ model: openai/x, to: [spare/y] }')}\nsecrets: [{ capability: "spare:generate", agents: ["*"] }]`,
    ),
  );
  expect(policy.fallbacksOf('openai/x')).toEqual(['spare/y']);
  expect(policy.mayUseSecret('support_triage', 'spare:generate').effect).toBe('allow');
});
