import { z } from 'zod';
import type { ActionContext, Reconciled } from '../../contracts/action';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';
import { defineApp } from '../../tools/app';
import { classedActions } from './classed-actions';
import { unrulyActions } from './unruly-actions';

/** A small product for tests: a record keeper outside, and an agent that works with it. */

const Written = z.object({ id: z.string(), account: z.string(), effect: z.int() });
type Written = z.infer<typeof Written>;

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
  verify: async (ctx, { recordId }) => {
    const { body } = await ctx.http.get(`/payments/${encodeURIComponent(recordId)}`);
    return (body as { id: string }).id === recordId;
  },
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

/** What a look-up by key answers: the keeper keeps each key with what it brought. */
const LookedUp = z.union([
  z.strictObject({ found: z.literal(true), result: Written }),
  z.strictObject({ found: z.literal(false) }),
]);

/** Writes on a record of the keeper, all of one form. */
const write = { result: Written, system: 'keeper', secret: 'keeper:write', timeout: '1s' } as const;
const ofRecord = z.object({ recordId: z.string().min(1).max(40) });
const records = ({ recordId }: { recordId: string }) => [{ system: 'keeper', id: recordId, account: 'acct' }];

const lookUpByKey = async (ctx: ActionContext, _args: unknown, key: string): Promise<Reconciled<Written>> => {
  const seen = LookedUp.parse((await ctx.http.get(`/by-key/${encodeURIComponent(key)}`)).body);
  return seen.found ? { happened: true, result: seen.result } : 'absent';
};

const lookedWrite = defineAction({
  ...write,
  name: 'looked.write',
  description: 'Writes where no key is honoured, and a write can be looked up soon after.',
  effect: 'write',
  args: ofRecord,
  records,
  visibleWithin: '4s',
  run: async (ctx, args) => Written.parse((await ctx.http.post('/looked', args)).body),
  reconcile: lookUpByKey,
});

const murkyWrite = defineAction({
  ...write,
  name: 'murky.write',
  description: 'As looked.write, where nobody says how soon a write shows.',
  effect: 'write',
  args: ofRecord,
  records,
  run: async (ctx, args) => Written.parse((await ctx.http.post('/murky', args)).body),
  reconcile: lookUpByKey,
});

const orderPlace = defineAction({
  ...write,
  name: 'order.place',
  description: 'Places an order, which can be cancelled.',
  effect: 'write',
  args: ofRecord,
  records,
  remoteHonoursKeys: true,
  reversible: 'compensable',
  run: async (ctx, args) => Written.parse((await ctx.http.post('/orders', args)).body),
  compensate: async (ctx, { recordId }, { effect }) =>
    await ctx.http.post('/orders/cancel', { recordId, effect }),
});

const dealMake = defineAction({
  ...write,
  name: 'deal.make',
  description: 'Makes a deal where no key is honoured; it can be called off.',
  effect: 'write',
  args: ofRecord,
  records,
  reversible: 'compensable',
  run: async (ctx, args) => Written.parse((await ctx.http.post('/deals', args)).body),
  compensate: async (ctx, { recordId }, { effect }) =>
    await ctx.http.post('/deals/cancel', { recordId, effect }),
});

const tagSet = defineAction({
  ...write,
  name: 'tag.set',
  description: 'Sets a tag, which leaves no trace and needs no undoing.',
  effect: 'write',
  args: ofRecord,
  records,
  remoteHonoursKeys: true,
  reversible: 'reversible',
  run: async (ctx, args) => Written.parse((await ctx.http.put('/tags', args)).body),
});

const wireSend = defineAction({
  ...write,
  name: 'wire.send',
  description: 'Sends money where it cannot be read back.',
  effect: 'high_risk_write',
  args: ofRecord,
  records,
  remoteHonoursKeys: true,
  run: async (ctx, args) => Written.parse((await ctx.http.post('/wires', args)).body),
});

const agent = {
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
    'looked.write',
    'murky.write',
    'order.place',
    'deal.make',
    'tag.set',
    'wire.send',
    ...classedActions.map(({ name }) => name),
    ...unrulyActions.map(({ name }) => name),
  ] as never,
  budget: { steps: 12, maxOutputTokens: 500 },
};
export const worker = defineAgent({ ...agent, id: 'test_worker' });
/** The same, and what it did is undone if its run fails. */
export const undoer = defineAgent({ ...agent, id: 'test_undoer', onFailure: 'undo' });

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
    lookedWrite,
    murkyWrite,
    orderPlace,
    dealMake,
    tagSet,
    wireSend,
    ...classedActions,
    ...unrulyActions,
  ],
  agents: [worker, undoer],
});
