import { z } from 'zod';
import type { RecordRef } from '../../contracts/action';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';
import { defineApp } from '../../tools/app';

/** A product whose writes end in every way that a person has to look after: unknown, undone, left, dead. */

const Written = z.object({ id: z.string(), account: z.string(), effect: z.int() });
type Written = z.infer<typeof Written>;
const args = z.object({ recordId: z.string().min(1).max(40) });
const records = ({ recordId }: { recordId: string }, result: Written | undefined): RecordRef[] =>
  result
    ? [{ system: 'keeper', id: result.id, account: result.account }]
    : [{ system: 'keeper', id: recordId }];
const shared = { args, result: Written, system: 'keeper', secret: 'keeper:write', timeout: '2s', records };

const recordRead = defineAction({
  name: 'record.read',
  description: 'Reads a record.',
  effect: 'read',
  args,
  result: z.object({ id: z.string(), account: z.string(), text: z.string() }),
  system: 'keeper',
  secret: 'keeper:read',
  timeout: '3s',
  records: ({ recordId }, result) =>
    result
      ? [{ system: 'keeper', id: result.id, account: result.account }]
      : [{ system: 'keeper', id: recordId }],
  run: async (ctx, { recordId }) =>
    (await ctx.http.get(`/records/${recordId}`)).body as { id: string; account: string; text: string },
});

/** No keys, no look-up: what is lost stays unknown. */
const blindWrite = defineAction({
  ...shared,
  name: 'blind.write',
  description: 'Writes where nobody can look it up.',
  effect: 'write',
  resultClasses: ['pii'],
  facts: {
    schema: z.object({ lastEffect: z.int().positive() }),
    from: (_given, { effect }) => ({ lastEffect: effect }),
  },
  run: async (ctx, given) => (await ctx.http.post('/blind', given)).body as Written,
});

const noteWrite = defineAction({
  ...shared,
  name: 'note.write',
  description: 'Writes a note that can be taken back.',
  effect: 'write',
  remoteHonoursKeys: true,
  reversible: 'compensable',
  run: async (ctx, given) => (await ctx.http.post('/notes', given)).body as Written,
  compensate: async (ctx, given, { effect }) =>
    (await ctx.http.post('/notes/undo', { ...given, effect })).body,
});

const mailSend = defineAction({
  ...shared,
  name: 'mail.send',
  description: 'Sends a mail; nothing takes it back.',
  effect: 'write',
  remoteHonoursKeys: true,
  reversible: 'final',
  run: async (ctx, given) => (await ctx.http.post('/mails', given)).body as Written,
});

/** Leaves nothing behind once it is taken off, and there is a way to. */
const labelPut = defineAction({
  ...shared,
  name: 'label.put',
  description: 'Puts a label on a record.',
  effect: 'write',
  remoteHonoursKeys: true,
  reversible: 'reversible',
  run: async (ctx, given) => (await ctx.http.post('/labels', given)).body as Written,
  compensate: async (ctx, given) => (await ctx.http.post('/labels/undo', given)).body,
});

/** Leaves nothing that needs to be undone. */
const tagSet = defineAction({
  ...shared,
  name: 'tag.set',
  description: 'Sets a tag.',
  effect: 'write',
  remoteHonoursKeys: true,
  reversible: 'reversible',
  run: async (ctx, given) => (await ctx.http.post('/tags', given)).body as Written,
});

const actions = [recordRead, blindWrite, noteWrite, mailSend, labelPut, tagSet];

export const app = defineApp({
  name: 'written',
  actions,
  agents: [
    defineAgent({
      id: 'test_writer',
      class: 'test',
      model: 'models/scripted',
      instructions: 'Do as the input says.',
      actions: actions.map(({ name }) => name),
      budget: { steps: 12, maxOutputTokens: 500 },
    }),
  ],
});

/** Rules of a tenant whose runs wait for reviews. */
export const RULES = `  - { id: all, effect: allow, actions: ["record.read", "blind.write", "note.write", "mail.send", "label.put", "tag.set"] }
onUnknownOutcome: review`;
