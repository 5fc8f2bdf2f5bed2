import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';

const MAX_CHARACTERS = 20_000;

export const webFetch = defineAction({
  name: 'web.fetch',
  description: 'Read a public web page as text.',
  effect: 'read',
  args: z.object({ url: z.url({ protocol: /^https?$/ }).max(2_000) }),
  result: z.strictObject({ status: z.int(), text: z.string().max(MAX_CHARACTERS) }),
  system: null,
  destination: (args) => args.url,
  timeout: '15s',
  run: async (ctx, args) => {
    const { status, body } = await ctx.http.get(args.url);
    return {
      status,
      text: (typeof body === 'string' ? body : JSON.stringify(body)).slice(0, MAX_CHARACTERS),
    };
  },
});
