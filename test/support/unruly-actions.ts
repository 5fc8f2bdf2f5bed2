import { z } from 'zod';
import { defineAction } from '../../tools/define-action';

/** Actions as authors should not write them. */

const Written = z.object({ id: z.string(), account: z.string(), effect: z.int() });

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

const deafRead = defineAction({
  name: 'deaf.read',
  description: 'Awaits something that never comes, and knows nothing of its signal.',
  effect: 'read',
  args: z.object({}),
  result: z.object({}),
  system: null,
  timeout: '1s',
  run: () => new Promise<never>(() => undefined),
});

export const unrulyActions = [strayWrite, brokenRead, deafRead];
