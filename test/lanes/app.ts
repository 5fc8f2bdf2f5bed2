import { z } from 'zod';
import { defineApp } from '../../tools/app';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';

/** The product of the tests of lanes: a job that takes as long as it is told to, ordinary or expensive. */

const Args = z.object({ intent: z.string().min(1).max(60), takesMs: z.int().nonnegative().max(20_000) });
const Done = z.object({ intent: z.string(), effect: z.int() });

const common = {
  effect: 'write',
  args: Args,
  result: Done,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '5s',
  remoteHonoursKeys: true,
} as const;

const job = defineAction({
  ...common,
  name: 'job.do',
  description: 'Does a job outside.',
  run: async (ctx, args) => (await ctx.http.post('/job', args)).body as z.infer<typeof Done>,
});

const report = defineAction({
  ...common,
  name: 'report.make',
  description: 'Makes a report, which is slow.',
  lane: 'expensive',
  run: async (ctx, args) => (await ctx.http.post('/report', args)).body as z.infer<typeof Done>,
});

const look = defineAction({
  name: 'job.look',
  description: 'Looks at a job.',
  effect: 'read',
  args: z.object({}),
  result: z.object({}),
  system: 'keeper',
  secret: 'keeper:read',
  timeout: '5s',
  run: async (ctx) => (await ctx.http.get('/job')).body as Record<string, never>,
});

export const app = defineApp({
  name: 'lanes',
  actions: [job, report, look],
  agents: [
    defineAgent({
      id: 'test_worker',
      class: 'test',
      model: 'models/scripted',
      instructions: 'Do as the input says.',
      actions: ['job.do', 'report.make', 'job.look'] as never,
      budget: { steps: 60, maxOutputTokens: 500 },
    }),
  ],
});
