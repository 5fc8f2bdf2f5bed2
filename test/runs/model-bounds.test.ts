import fc from 'fast-check';
import { z } from 'zod';
import { askModel, questionOf, type Question } from '../../activities/model-ask';
import { costOf, inputBound, usageOf } from '../../activities/model-bounds';
import { assembleMessages } from '../../activities/conversation';
import type { StoredItem } from '../../contracts/rows';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';

interface SentMessage {
  readonly role: string;
  readonly content?: string | null;
  readonly tool_calls?: readonly { id: string; function: { name: string; arguments: string } }[];
}
interface Sent {
  readonly max_tokens: number;
  readonly messages: readonly SentMessage[];
  readonly tools?: readonly { function: { name: string; description?: string; parameters: unknown } }[];
}

const note = defineAction({
  name: 'note.write',
  description: 'Schreibt eine Notiz — mit „Umlauten“.',
  effect: 'write',
  args: z.object({ text: z.string().describe('文字'), count: z.int().optional() }),
  result: z.object({}),
  system: null,
  timeout: '1s',
  run: () => Promise.resolve({}),
});
const agentOf = (instructions: string, maxOutputTokens = 77) =>
  defineAgent({
    id: 'writer',
    class: 'test',
    model: 'models/scripted',
    instructions,
    actions: [note.name],
    budget: { steps: 5, maxOutputTokens },
  });
const actions = new Map([[note.name, note]]);
const answer = (usage: unknown, content = 'fine'): string =>
  JSON.stringify({
    id: 'x',
    object: 'chat.completion',
    created: 1,
    model: 'scripted',
    choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
    usage,
  });

/** Asks over a stand-in for the wire, and gives back what would have been sent. */
async function sentBy(question: Question, body = answer({ prompt_tokens: 3, completion_tokens: 2 })) {
  const sent: Sent[] = [];
  const io = {
    baseUrl: new URL('http://models.example/v1'),
    signal: new AbortController().signal,
    fetch: (async (...[, init]: Parameters<typeof fetch>) => {
      sent.push(JSON.parse(typeof init?.body === 'string' ? init.body : '') as Sent);
      return Promise.resolve(new Response(body, { headers: { 'content-type': 'application/json' } }));
    }) as typeof fetch,
  };
  const step = await askModel(io, 'scripted', question, inputBound(question));
  if (!sent[0]) throw new Error('nothing was sent');
  return { sent: sent[0], step };
}

const bytes = (text: string | null | undefined): number => Buffer.byteLength(text ?? '', 'utf8');
/** Every byte of text that a tokenizer is given, and room for a template: a few special tokens for each part. */
const TEMPLATE = 6;
const tokensAtMost = ({ messages, tools = [] }: Sent): number =>
  messages
    .flatMap(({ role, content, tool_calls }) => [
      TEMPLATE + bytes(role) + bytes(content),
      ...(tool_calls ?? []).map(
        ({ id, function: { name, arguments: args } }) => TEMPLATE + bytes(id) + bytes(name) + bytes(args),
      ),
    ])
    .concat(
      tools.map(
        ({ function: { name, description, parameters } }) =>
          TEMPLATE + bytes(name) + bytes(description) + bytes(JSON.stringify(parameters)),
      ),
    )
    .reduce((sum, part) => sum + part, 0);

const own = { tenantId: 'acme', environment: 'test', rootRunId: 'run-1' } as never;
const marker = { tenantId: 'acme', environment: 'test', runId: 'run-1' };
const row = (ref: string, payload: unknown) => ({ ref, payload, marker }) as StoredItem;

test('Q2 the bound of a prompt is above every token that a tokenizer of bytes could make of it, whatever its text', async () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.string({ unit: 'grapheme', maxLength: 60 }),
    fc.string({ maxLength: 60 }),
  );
  await fc.assert(
    fc.asyncProperty(
      text.filter((it) => it !== ''),
      text,
      fc.array(fc.record({ said: text, told: text, args: fc.dictionary(text, text, { maxKeys: 3 }) }), {
        maxLength: 4,
      }),
      async (instructions, input, steps) => {
        const rows = [
          row('input', { kind: 'input', input }),
          ...steps.flatMap(({ said, told, args }, index) => [
            row(`${index}.0`, {
              kind: 'model',
              text: said,
              toolCalls: [{ id: `call_${index}`, name: 'note__write', args }],
              inputTokens: 1,
              outputTokens: 1,
            }),
            row(`${index}.1`, { kind: 'tool', outcome: 'done', action: 'note.write', result: { told } }),
          ]),
        ];
        const question = questionOf(
          agentOf(instructions),
          assembleMessages(own, rows, steps.length),
          actions,
        );
        const { sent } = await sentBy(question);
        expect(tokensAtMost(sent)).toBeLessThanOrEqual(inputBound(question));
        expect(sent.max_tokens).toBe(77);
      },
    ),
    { numRuns: 150 },
  );
});

test('Q2 characters of several bytes are bounded by their bytes, however many there are', () => {
  const of = (text: string): number =>
    inputBound({ system: text, messages: [{ role: 'user', content: text }], tools: [] });
  for (const character of ['é', '漢', '🜁'])
    expect(of(character.repeat(10_000)) - of('')).toBe(2 * 10_000 * bytes(character));
});

const LONE = String.fromCharCode(0xd800);
test('Q2 half a character, which is sent as three bytes, is in the bound with more', () => {
  const of = (system: string): number => inputBound({ system, messages: [], tools: [] });
  expect(of(LONE) - of('')).toBeGreaterThanOrEqual(Buffer.byteLength(LONE, 'utf8'));
});

test.each<[string, unknown, { inputTokens: number; outputTokens: number }]>([
  [
    'all of it',
    { prompt_tokens: 30, completion_tokens: 2, total_tokens: 32 },
    { inputTokens: 30, outputTokens: 2 },
  ],
  [
    'more than the bound',
    { prompt_tokens: 900_000, completion_tokens: 500 },
    { inputTokens: 900_000, outputTokens: 500 },
  ],
  [
    'a sum beyond its parts',
    { prompt_tokens: 30, completion_tokens: 2, total_tokens: 90 },
    { inputTokens: 30, outputTokens: 60 },
  ],
  ['nothing', undefined, { inputTokens: -1, outputTokens: 77 }],
  ['null', null, { inputTokens: -1, outputTokens: 77 }],
  ['an empty object', {}, { inputTokens: -1, outputTokens: 77 }],
  ['the input alone', { prompt_tokens: 30 }, { inputTokens: 30, outputTokens: 77 }],
  ['the output alone', { completion_tokens: 2 }, { inputTokens: -1, outputTokens: 2 }],
  ['less than nothing', { prompt_tokens: -5, completion_tokens: -1 }, { inputTokens: -1, outputTokens: 77 }],
  ['halves', { prompt_tokens: 1.5, completion_tokens: 0.5 }, { inputTokens: -1, outputTokens: 77 }],
  [
    'more than there is',
    { prompt_tokens: 1e30, completion_tokens: 1e300 },
    { inputTokens: -1, outputTokens: 77 },
  ],
  [
    'more than any call uses',
    { prompt_tokens: 1_000_000_001, completion_tokens: 1_000_000_001 },
    { inputTokens: -1, outputTokens: 77 },
  ],
])(
  'Q2 a provider that says %s of its usage: what it says is charged, the bound where it says nothing',
  async (_what, usage, expected) => {
    const question = questionOf(agentOf('Do.'), [{ role: 'user', content: 'go' }], actions);
    const { step } = await sentBy(question, answer(usage));
    const { inputTokens } = expected;
    expect(step).toMatchObject({
      ...expected,
      inputTokens: inputTokens < 0 ? inputBound(question) : inputTokens,
    });
  },
);

test('Q2 an answer without a word may have cost no output, never no input', () => {
  const bound = { inputTokens: 50, outputTokens: 20 };
  const told = { inputTokens: 0, outputTokens: 0, totalTokens: 0 };
  expect(usageOf(told, bound, true)).toEqual({ inputTokens: 50, outputTokens: 0 });
  expect(usageOf(told, bound, false)).toEqual(bound);
});

test('Q2 money is counted exactly, and up to a whole micro-dollar', () => {
  const price = { inputMicroUsdPerMTok: 2_500_000, outputMicroUsdPerMTok: 10_000_000 };
  expect(costOf(price, 1_000_000, 0)).toEqual({ microUsd: 2_500_000, modelTokens: 1_000_000 });
  expect(costOf(price, 1, 0)).toEqual({ microUsd: 3, modelTokens: 1 });
  expect(costOf(price, 0, 0)).toEqual({ microUsd: 0, modelTokens: 0 });
  expect(costOf(undefined, 7, 8)).toEqual({ microUsd: 0, modelTokens: 15 });
  const most = { inputMicroUsdPerMTok: 1_000_000_000, outputMicroUsdPerMTok: 1_000_000_000 };
  expect(costOf(most, 1_000_000_000, 999_999_999).microUsd).toBe(1_999_999_999_000);
});
