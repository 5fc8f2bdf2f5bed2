import { z } from 'zod';
import { defineApp } from '../../tools/app';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';

/** The product under chaos: one write of each kind of outside system, and two agents that do as they are told. */

/** Of one attempt, milliseconds; its lease is this and the gateway's margin. */
export const TIMEOUT_MS = 1_500;
/** After its lease, how late a write may still show at the system without keys, milliseconds. */
export const VISIBLE_WITHIN_MS = 1_500;

const Args = z.object({ intent: z.string().min(1).max(60) });
const Written = z.object({ intent: z.string(), effect: z.int() });
type Written = z.infer<typeof Written>;

const common = {
  effect: 'write',
  args: Args,
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: `${TIMEOUT_MS}ms`,
} as const;

const keyed = defineAction({
  ...common,
  name: 'keyed.write',
  description: 'Writes where keys are honoured.',
  remoteHonoursKeys: true,
  reversible: 'compensable',
  run: async (ctx, args) => (await ctx.http.post('/keyed', args)).body as Written,
  compensate: async (ctx, { intent }) => (await ctx.http.post('/undo', { intent })).body,
});

const looked = defineAction({
  ...common,
  name: 'looked.write',
  description: 'Writes where keys are ignored and a write can be looked up by its reference.',
  visibleWithin: `${VISIBLE_WITHIN_MS}ms`,
  run: async (ctx, args) => (await ctx.http.post('/looked', args)).body as Written,
  reconcile: async (ctx, { intent }) => {
    const { body } = await ctx.http.get(`/looked?intent=${encodeURIComponent(intent)}`);
    const found = z.object({ found: Written.nullable() }).parse(body).found;
    return found ? { happened: true, result: found } : 'absent';
  },
});

const blind = defineAction({
  ...common,
  name: 'blind.write',
  description: 'Writes where keys are ignored and nobody can look a write up.',
  run: async (ctx, args) => (await ctx.http.post('/blind', args)).body as Written,
});

const agent = {
  class: 'test',
  model: 'models/scripted',
  instructions: 'Do as the input says.',
  actions: ['keyed.write', 'looked.write', 'blind.write'],
  budget: { steps: 60, maxOutputTokens: 500 },
};
export const KEEPS = 'chaos_keeps';
export const UNDOES = 'chaos_undoes';

export const app = defineApp({
  name: 'chaos',
  actions: [keyed, looked, blind],
  agents: [
    defineAgent({ ...agent, id: KEEPS }),
    defineAgent({ ...agent, id: UNDOES, onFailure: 'undo' } as never),
  ],
});
