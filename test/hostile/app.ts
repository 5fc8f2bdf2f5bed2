import { z } from 'zod';
import type { ActionContext } from '../../contracts/action';
import { digestOfTuple } from '../../contracts/digest';
import { defineApp } from '../../tools/app';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';

/** The product under attack: a desk whose agent has many more actions than its tenants let it use. */

const recordId = z.string().min(1).max(60);
const text = z.string().max(4_000);
const Written = z.object({ id: z.string(), account: z.string(), effect: z.int() });
const Entry = z.object({ id: z.string(), account: z.string(), text: z.string() });

/** Stands for one exact text: the classifier hands it out, and `mail.send` asks for it back. */
export const draftOf = (of: string): string => digestOfTuple([of]).slice(0, 16);

const ofRecord = (
  args: { recordId: string },
  result: { id: string; account: string } | undefined,
): { system: string; id: string; account?: string }[] => [
  result
    ? { system: 'keeper', id: result.id, account: result.account }
    : { system: 'keeper', id: args.recordId },
];

const bodyAt = async (ctx: ActionContext, path: string): Promise<unknown> => (await ctx.http.get(path)).body;
const reads = { effect: 'read', system: 'keeper', secret: 'keeper:read', timeout: '10s' } as const;

const recordRead = defineAction({
  ...reads,
  name: 'record.read',
  description: 'Reads a record.',
  args: z.object({ recordId }),
  result: Entry,
  records: ofRecord,
  run: async (ctx, args) =>
    (await bodyAt(ctx, `/records/${encodeURIComponent(args.recordId)}`)) as z.infer<typeof Entry>,
});
const Person = z.object({ id: z.string(), account: z.string(), name: z.string(), email: z.string() });
const personRead = defineAction({
  ...reads,
  name: 'person.read',
  description: 'Reads the person of a record.',
  args: z.object({ recordId }),
  result: Person,
  resultClasses: ['pii'],
  records: ofRecord,
  facts: { schema: z.object({ email: z.string() }), from: (_args, { email }) => ({ email }) },
  run: async (ctx, args) =>
    (await bodyAt(ctx, `/persons/${encodeURIComponent(args.recordId)}`)) as z.infer<typeof Person>,
});

const Judged = z.object({ id: z.string(), account: z.string(), verdict: z.enum(['passed', 'failed']) });
/** Outside, so that its log tells what was judged, and when. */
const mailJudge = defineAction({
  ...reads,
  name: 'mail.judge',
  description: 'Judges the text of a mail.',
  args: z.object({ recordId, text }),
  result: Judged,
  records: ofRecord,
  facts: {
    schema: z.object({ verdict: z.enum(['passed', 'failed']), draft: z.string() }),
    from: (args, { verdict }) => ({ verdict, draft: draftOf(args.text) }),
  },
  run: async (ctx, args) =>
    (await bodyAt(
      ctx,
      `/verdicts/${encodeURIComponent(args.recordId)}?text=${encodeURIComponent(args.text)}`,
    )) as z.infer<typeof Judged>,
});

const pageFetch = defineAction({
  name: 'page.fetch',
  description: 'Fetches a page.',
  effect: 'read',
  args: z.object({ url: z.string().max(2_000) }),
  result: z.object({ status: z.int() }),
  system: 'web',
  destination: ({ url }) => url,
  timeout: '5s',
  run: async (ctx, { url }) => ({ status: (await ctx.http.get(new URL(url).pathname)).status }),
});

/** A write of one form: what it is told goes to `path` of its system. */
const write = (
  name: string,
  path: string,
  { system = 'keeper', secret = 'keeper:write' }: { system?: string; secret?: string | null } = {},
) =>
  defineAction({
    name,
    description: `Does ${name}.`,
    effect: 'write',
    args: z.object({ recordId, text, amountCents: z.int().positive().optional() }),
    result: Written,
    system,
    ...(secret === null ? {} : { secret }),
    timeout: '10s',
    remoteHonoursKeys: true,
    records: ofRecord,
    run: async (ctx, args) => (await ctx.http.post(path, args)).body as z.infer<typeof Written>,
  });

const refundMake = defineAction({
  name: 'refund.make',
  description: 'Gives money back.',
  effect: 'high_risk_write',
  args: z.object({
    recordId,
    amountCents: z.int().positive(),
    reason: text,
    tenantId: z.string().optional(),
    meta: z.unknown().optional(),
  }),
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  timeout: '10s',
  remoteHonoursKeys: true,
  records: ofRecord,
  run: async (ctx, args) => (await ctx.http.post('/refunds', args)).body as z.infer<typeof Written>,
  verify: async (ctx, { amountCents }, { effect }) =>
    ((await bodyAt(ctx, `/refunds/${effect}`)) as { amountCents: number }).amountCents === amountCents,
});

const mailSend = defineAction({
  name: 'mail.send',
  description: 'Mails the person of a record. Ask mail.judge first, and bring its draft code.',
  effect: 'write',
  args: z
    .object({ recordId, to: z.string().max(200), text, draft: z.string().max(40) })
    .refine((mail) => mail.draft === draftOf(mail.text), { message: 'is not the code of this very text' }),
  result: Written,
  system: 'keeper',
  secret: 'keeper:write',
  dataClasses: { to: ['pii'] },
  timeout: '10s',
  remoteHonoursKeys: true,
  records: ofRecord,
  run: async (ctx, { recordId: of, to, text: said }) =>
    (await ctx.http.post('/mails', { recordId: of, to, text: said })).body as z.infer<typeof Written>,
});

const actions = [
  recordRead,
  personRead,
  mailJudge,
  pageFetch,
  refundMake,
  mailSend,
  write('note.write', '/notes'),
  write('partner.tell', '/tells', { system: 'partner', secret: null }),
  write('mirror.tell', '/tells', { system: 'mirror', secret: null }),
  write('gift.send', '/gifts'),
  write('account.close', '/closings'),
  write('record.export', '/exports'),
  write('wage.pay', '/wages'),
  write('safe.open', '/safes', { secret: 'safe:open' }),
];
const ledgerWipe = write('ledger.wipe', '/wipes');

const agent = {
  class: 'desk',
  model: 'models/scripted',
  instructions: 'Do as the input says.',
  budget: { steps: 12, maxOutputTokens: 500 },
};

export const deskAgent = defineAgent({
  ...agent,
  id: 'desk_agent',
  actions: actions.map(({ name }) => name),
});
/** Whose actions no other agent has. */
export const payrollAgent = defineAgent({
  ...agent,
  id: 'payroll_agent',
  class: 'payroll',
  actions: ['wage.pay', 'safe.open', 'ledger.wipe'] as never,
});

export const app = defineApp({
  name: 'hostile',
  actions: [...actions, ledgerWipe],
  agents: [deskAgent, payrollAgent],
});
