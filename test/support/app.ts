import { z } from 'zod';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';
import { defineApp } from '../../tools/app';

/** A small product for tests: a record keeper outside, and an agent that works with it. */

const Written = z.object({ id: z.string(), account: z.string(), effect: z.int() });

const recordRead = defineAction({
  name: 'record.read',
  description: 'Reads a record.',
  effect: 'read',
  args: z.object({ recordId: z.string().min(1).max(40) }),
  result: z.object({ id: z.string(), account: z.string(), text: z.string() }),
  system: 'keeper',
  secret: 'keeper:read',
  timeout: '3s',
  records: ({ recordId }, result) =>
    result
      ? [{ system: 'keeper', id: result.id, account: result.account }]
      : [{ system: 'keeper', id: recordId }],
  run: async (ctx, { recordId }) =>
    (await ctx.http.get(`/records/${encodeURIComponent(recordId)}`)).body as {
      id: string;
      account: string;
      text: string;
    },
});

const noteWrite = defineAction({
  name: 'note.write',
  description: 'Writes a note on a record.',
  effect: 'write',
  args: z.object({ recordId: z.string().min(1).max(40), text: z.string().max(2_000) }),
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '3s',
  remoteHonoursKeys: true,
  reversible: 'final',
  records: ({ recordId }, result) =>
    result
      ? [{ system: 'keeper', id: result.id, account: result.account }]
      : [{ system: 'keeper', id: recordId }],
  run: async (ctx, args) => (await ctx.http.post('/notes', args)).body as z.infer<typeof Written>,
});

const blindWrite = defineAction({
  name: 'blind.write',
  description: 'Writes where nobody can look it up.',
  effect: 'write',
  args: z.object({ recordId: z.string().min(1).max(40) }),
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '2s',
  records: ({ recordId }) => [{ system: 'keeper', id: recordId, account: 'acct' }],
  run: async (ctx, args) => (await ctx.http.post('/blind', args)).body as z.infer<typeof Written>,
});

const paymentSend = defineAction({
  name: 'payment.send',
  description: 'Sends money.',
  effect: 'high_risk_write',
  args: z.object({
    recordId: z.string().min(1).max(40),
    amountCents: z.int().positive(),
    tenantId: z.string().optional(),
    meta: z.unknown().optional(),
  }),
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '3s',
  remoteHonoursKeys: true,
  cost: { microUsd: 200 },
  records: ({ recordId }) => [{ system: 'keeper', id: recordId, account: 'acct' }],
  run: async (ctx, args) => (await ctx.http.post('/payments', args)).body as z.infer<typeof Written>,
  verify: async (ctx, args) => (await ctx.http.get(`/payments/${args.recordId}`)).status === 200,
});

const webFetch = defineAction({
  name: 'web.fetch',
  description: 'Fetches a page.',
  effect: 'read',
  args: z.object({ url: z.string().max(2_000) }),
  result: z.object({ status: z.int() }),
  system: 'web',
  destination: ({ url }) => url,
  timeout: '2s',
  run: async (ctx, { url }) => ({ status: (await ctx.http.get(new URL(url).pathname)).status }),
});

const textJudge = defineAction({
  name: 'text.judge',
  description: 'Judges a text; its verdict is a fact of the run.',
  effect: 'read',
  args: z.object({ text: z.string().max(2_000) }),
  result: z.object({ verdict: z.enum(['passed', 'failed']) }),
  system: null,
  timeout: '1s',
  facts: {
    schema: z.object({ verdict: z.enum(['passed', 'failed']) }),
    from: (_args, { verdict }) => ({ verdict }),
  },
  run: async (_ctx, { text }) => ({
    verdict: text.includes('bad') ? ('failed' as const) : ('passed' as const),
  }),
});

const checkedWrite = defineAction({
  name: 'checked.write',
  description: 'Writes where keys are honoured and a look-up finds nothing until the write is applied.',
  effect: 'write',
  args: z.object({ recordId: z.string().min(1).max(40) }),
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '3s',
  remoteHonoursKeys: true,
  records: ({ recordId }) => [{ system: 'keeper', id: recordId, account: 'acct' }],
  run: async (ctx, args) => (await ctx.http.post('/checked', args)).body as z.infer<typeof Written>,
  reconcile: () => Promise.resolve('absent' as const),
});

const strayWrite = defineAction({
  name: 'stray.write',
  description: 'Fails at once, and leaves a write running that it never waits for.',
  effect: 'write',
  args: z.object({ recordId: z.string() }),
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '5s',
  records: ({ recordId }) => [{ system: 'keeper', id: recordId, account: 'acct' }],
  run: async (ctx, args) => {
    setTimeout(() => void ctx.http.post('/stray', args).catch(() => undefined), 700);
    await ctx.http.get('/records/r1');
    throw new Error('fails at once');
  },
});

const brokenRead = defineAction({
  name: 'broken.read',
  description: 'Has a defect where it names its records.',
  effect: 'read',
  args: z.object({ recordId: z.string() }),
  result: Written,
  system: 'keeper',
  timeout: '5s',
  records: () => {
    throw new TypeError('canary-of-an-author');
  },
  run: () => Promise.reject(new Error('never runs')),
});

export const worker = defineAgent({
  id: 'test_worker',
  class: 'test',
  model: 'models/scripted',
  instructions: 'Do as the input says.',
  actions: [
    'record.read',
    'note.write',
    'blind.write',
    'payment.send',
    'web.fetch',
    'text.judge',
    'checked.write',
    'stray.write',
    'broken.read',
  ] as never,
  budget: { steps: 12, maxOutputTokens: 500 },
});

export const app = defineApp({
  name: 'test',
  actions: [
    recordRead,
    noteWrite,
    blindWrite,
    paymentSend,
    webFetch,
    textJudge,
    checkedWrite,
    strayWrite,
    brokenRead,
  ],
  agents: [worker],
});
