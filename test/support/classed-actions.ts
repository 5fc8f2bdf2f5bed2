import { z } from 'zod';
import { defineAction } from '../../tools/define-action';

/** Actions whose arguments and results carry classes of data. */

const recordId = z.string().min(1).max(40);
const Written = z.object({ id: z.string(), account: z.string(), effect: z.int() });

const personRead = defineAction({
  name: 'person.read',
  description: 'Reads a record of a person.',
  effect: 'read',
  args: z.object({ recordId }),
  result: z.object({ id: z.string(), account: z.string(), text: z.string() }),
  resultClasses: ['pii'],
  system: 'keeper',
  secret: 'keeper:read',
  timeout: '3s',
  records: ({ recordId: id }, result) => [
    result ? { system: 'keeper', id: result.id, account: result.account } : { system: 'keeper', id },
  ],
  run: async (ctx, { recordId: id }) =>
    (await ctx.http.get(`/records/${encodeURIComponent(id)}`)).body as {
      id: string;
      account: string;
      text: string;
    },
});

/** Goes to a system of its own, at another host than the keeper's. */
const partnerTell = defineAction({
  name: 'partner.tell',
  description: 'Tells a partner something.',
  effect: 'write',
  args: z.object({ recordId, text: z.string().max(2_000), amountCents: z.int().optional() }),
  dataClasses: { amountCents: ['financial'] },
  result: Written,
  system: 'partner',
  timeout: '3s',
  remoteHonoursKeys: true,
  records: ({ recordId: id }) => [{ system: 'keeper', id, account: 'acct' }],
  run: async (ctx, args) => Written.parse((await ctx.http.post('/tell', args)).body),
});

const librarySearch = defineAction({
  name: 'library.search',
  description: 'Searches the tenant’s own documents.',
  effect: 'read',
  args: z.object({ query: z.string().max(500) }),
  result: z.object({ titles: z.array(z.string()) }),
  resultClasses: ['internal'],
  system: null,
  timeout: '3s',
  run: async (ctx, { query }) => {
    // Catches what it should let pass, as an author may.
    const found = await ctx.knowledge.search(query, 5).catch(() => []);
    return { titles: found.map(({ title }) => title) };
  },
});

/** Its answer is confidential, however it comes: at once, or by a look-up. */
const sealedWrite = defineAction({
  name: 'sealed.write',
  description: 'Writes where no key is honoured, and a write can be looked up soon after.',
  effect: 'write',
  args: z.object({ recordId }),
  result: Written,
  resultClasses: ['financial'],
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '1s',
  visibleWithin: '4s',
  records: ({ recordId: id }) => [{ system: 'keeper', id, account: 'acct' }],
  run: async (ctx, args) => Written.parse((await ctx.http.post('/sealed', args)).body),
  reconcile: async (ctx, _args, key) => {
    const { body } = await ctx.http.get(`/by-key/${encodeURIComponent(key)}`);
    const { found, result } = body as { found: boolean; result?: unknown };
    return found ? { happened: true, result: Written.parse(result) } : 'absent';
  },
});

export const classedActions = [personRead, partnerTell, librarySearch, sealedWrite];
