import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';

const PASSAGES = 3;

export const knowledgeSearch = defineAction({
  name: 'knowledge.search',
  description:
    'Search the knowledge base for what we tell customers. A topic of one or two words works best.',
  effect: 'read',
  args: z.object({ query: z.string().min(1).max(200) }),
  result: z.strictObject({
    passages: z.array(z.strictObject({ documentId: z.string(), title: z.string(), text: z.string() })),
  }),
  system: null,
  timeout: '5s',
  run: async (ctx, args) => {
    const found = await ctx.knowledge.search(args.query, PASSAGES);
    return { passages: found.map(({ documentId, title, text }) => ({ documentId, title, text })) };
  },
});
