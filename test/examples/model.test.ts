import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, tool, type ModelMessage, type ToolSet } from 'ai';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { app } from '../../examples/support-desk/app';
import { think } from '../../examples/support-desk/model/brain';
import type { PastCall } from '../../examples/support-desk/model/conversation';
import { tenantData } from '../../examples/support-desk/data';
import { tokenDigest } from '../../examples/support-desk/systems/tokens';
import { Processes } from './processes';

const KEY = 'sk-test-0123456789';
const processes = new Processes();
const stateDir = processes.folder('scripted-model-');
let baseURL = '';

beforeAll(async () => {
  const tokens = path.join(stateDir, 'tokens.json');
  writeFileSync(
    tokens,
    JSON.stringify({
      tokens: [
        { name: 'acme/openai:generate', sha256: tokenDigest(KEY), account: 'acme-1', may: ['generate'] },
      ],
    }),
  );
  const module = path.join(__dirname, '../../examples/support-desk/model/server.ts');
  const { url } = await processes.start('models', module, { SYSTEM_STATE: stateDir, SYSTEM_TOKENS: tokens });
  baseURL = `${url}/v1`;
});
afterAll(() => processes.end());

const tools: ToolSet = Object.fromEntries(
  [...app.actions.keys()].map((name) => [
    name.replaceAll('.', '__'),
    tool({ description: name, inputSchema: jsonSchema({ type: 'object' }) }),
  ]),
);

function ask(messages: ModelMessage[], apiKey = KEY) {
  const provider = createOpenAICompatible({ name: 'scripted', baseURL, apiKey });
  return generateText({
    model: provider.chatModel('scripted-support-1'),
    system: 'You are the support agent.',
    messages,
    tools,
    maxRetries: 0,
  });
}

const input: ModelMessage = {
  role: 'user',
  content: JSON.stringify({ ticketId: 'TKT-1029', task: 'Handle this support ticket.' }),
};

function afterReading(result: unknown): ModelMessage[] {
  const value = { outcome: 'done', result } as never;
  return [
    input,
    {
      role: 'assistant',
      content: [
        {
          type: 'tool-call',
          toolCallId: 'call_0_0',
          toolName: 'ticket__read',
          input: { ticketId: 'TKT-1029' },
        },
      ],
    },
    {
      role: 'tool',
      content: [
        {
          type: 'tool-result',
          toolCallId: 'call_0_0',
          toolName: 'ticket__read',
          output: { type: 'json', value },
        },
      ],
    },
  ];
}

const hostile = tenantData('acme').tickets.find(({ record }) => record.id === 'TKT-1029');
const seen = { ...hostile?.record, replyMode: 'draft' };

describe('the scripted model behind the AI SDK', () => {
  it('U4 asks for the ticket first, by the names of the request, and reports its tokens', async () => {
    const answer = await ask([input]);
    expect(answer.toolCalls.map(({ toolName, input: args }) => [toolName, args])).toEqual([
      ['ticket__read', { ticketId: 'TKT-1029' }],
    ]);
    expect(answer.finishReason).toBe('tool-calls');
    expect(answer.usage.inputTokens).toBeGreaterThan(0);
    expect(answer.usage.outputTokens).toBeGreaterThan(0);
  });

  it('U4 the same conversation gets the same answer, whatever was asked in between', async () => {
    const first = await ask(afterReading(seen));
    await ask([input]);
    const second = await ask(afterReading(seen));
    expect(second.toolCalls).toEqual(first.toolCalls);
  });

  it('T6 a hostile ticket hijacks it whole: it asks for every forbidden thing, a tool that does not exist among them', async () => {
    const answer = await ask(afterReading(seen));
    expect(answer.toolCalls.map(({ toolName }) => toolName)).toEqual(['ticket__reply', 'customer__export']);
  });

  it('T6 it ends instead of guessing when the ticket was refused', async () => {
    const messages = afterReading(seen);
    const refusal = { outcome: 'denied', refusal: { origin: 'policy', rule: 'x', message: 'no' } } as never;
    const refused: ModelMessage = {
      role: 'tool',
      content: [
        {
          type: 'tool-result',
          toolCallId: 'call_0_0',
          toolName: 'ticket__read',
          output: { type: 'json', value: refusal },
        },
      ],
    };
    const answer = await ask([...messages.slice(0, 2), refused]);
    expect([answer.toolCalls.length, answer.finishReason]).toEqual([0, 'stop']);
    expect(answer.text).toContain('could not be read');
  });

  it('S1 a wrong key is 401, and a request out of form 422 with what is wrong', async () => {
    await expect(ask([input], 'sk-wrong')).rejects.toMatchObject({ statusCode: 401 });
    const response = await fetch(`${baseURL}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}` },
      body: '{"model":"x"}',
    });
    expect([response.status, await response.text()]).toEqual([422, expect.stringContaining('messages')]);
  });

  it('S2 prompts are kept for whoever looks for secrets in them, without the key', () => {
    const prompts = readFileSync(path.join(stateDir, 'prompts.jsonl'), 'utf8');
    expect(prompts).toContain('TKT-1029');
    expect(prompts).not.toContain(KEY);
  });
});

describe('the scripted model as the goodwill agent', () => {
  const ticket = {
    id: 'TKT-1',
    subject: 'Let down twice',
    text: 'Our new phone number: +1 555 010 7788. We want the $10.00 of this week back.',
    requester: 'R',
    replyMode: 'direct',
    customer: { id: 'cus_1' },
    payments: [{ id: 'pay_1', description: 'Fee' }],
  };
  const results: Readonly<Record<string, unknown>> = {
    'ticket.read': ticket,
    'payment.read': { id: 'pay_1', amountCents: 1_000, refundedCents: 0 },
  };

  it.each([
    ['refused', false, ['payment.refund', 'payment.refund', 'payment.refund']],
    ['paid', true, ['payment.refund']],
  ])('U4 it sets right what is wrong and asks for the credit until it is paid: %s', (_how, paid, credits) => {
    const input = JSON.stringify({ ticketId: 'TKT-1', task: 'with a goodwill credit of $500.00 on top' });
    const calls: PastCall[] = [];
    const asked: string[] = [];
    for (let step = 0; step < 9; step += 1) {
      const thought = think({ input, calls, toolName: (name) => name });
      if ('text' in thought) break;
      for (const { name, args } of thought.calls) {
        const done = args.amountCents !== 50_000 || paid;
        asked.push(name);
        calls.push({ name, args, done, result: done ? (results[name] ?? {}) : undefined });
      }
    }
    expect(asked).toEqual([
      'ticket.read',
      'customer.read',
      'payment.read',
      'customer.update',
      'payment.refund',
      'ticket.reply',
      'ticket.update',
      ...credits,
    ]);
  });
});
