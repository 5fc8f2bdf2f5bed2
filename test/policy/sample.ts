import { z } from 'zod';
import type { ActionSpec } from '../../contracts/action';
import type { CompiledPolicy, PolicyRequest } from '../../contracts/policy-decision';
import { type Mistake, formatMistakes } from '../../policy/documents';
import { compileProfile } from '../../policy/compile';
import { defineApp } from '../../tools/app';
import { defineAction } from '../../tools/define-action';
import { defineAgent } from '../../tools/define-agent';

const unused = (): Promise<never> => Promise.reject(new Error('policy tests run no action'));
const action = <A extends z.ZodObject>(
  name: string,
  effect: 'read' | 'write' | 'high_risk_write',
  args: A,
  more: Partial<ActionSpec<A>> = {},
) =>
  defineAction<A, z.ZodType>({
    name,
    description: name,
    effect,
    args,
    result: z.unknown(),
    system: 'helpdesk',
    timeout: '10s',
    run: unused,
    verify: () => Promise.resolve(true),
    ...more,
  });

/** An app with one of everything that rules can and cannot read. */
export const app = defineApp({
  name: 'policy-sample',
  actions: [
    action('ticket.read', 'read', z.object({ ticketId: z.string() }), { resultClasses: ['pii'] }),
    action('ticket.search', 'read', z.object({ query: z.string(), limit: z.int().optional() })),
    action(
      'ticket.update',
      'write',
      z.object({ ticketId: z.string(), tags: z.array(z.string()), urgent: z.boolean() }),
    ),
    action(
      'payment.refund',
      'high_risk_write',
      z.object({ paymentId: z.string(), amountCents: z.int().positive() }),
      {
        system: 'payments',
        secret: 'payments:refund',
        dataClasses: { paymentId: ['financial'] },
      },
    ),
    action('email.send', 'write', z.object({ to: z.string(), body: z.string() }), {
      system: 'mail',
      secret: 'mail:send',
      dataClasses: { to: ['pii'] },
    }),
    action('web.fetch', 'read', z.object({ url: z.string() }), {
      system: 'web',
      destination: ({ url }) => new URL(url).hostname,
    }),
    action('text.classify', 'read', z.object({ text: z.string() }), {
      system: null,
      facts: {
        schema: z.object({
          compliance: z.enum(['passed', 'failed']),
          score: z.int(),
          vip: z.boolean(),
          odds: z.number(),
        }),
        from: () => ({}),
      },
    }),
    action(
      'odd.shapes',
      'write',
      z.object({
        fraction: z.number(),
        either: z.union([z.string(), z.int()]),
        maybe: z.string().nullable(),
        free: z.record(z.string(), z.string()),
        nested: z.strictObject({
          deep: z.strictObject({ n: z.int(), f: z.number() }),
          word: z.enum(['a', 'b']).optional(),
        }),
        matrix: z.array(z.array(z.int())),
        defaulted: z.int().default(3),
        __entity: z.string().optional(),
      }),
    ),
  ],
  agents: [
    defineAgent({
      id: 'support_triage',
      class: 'support',
      model: 'openai/gpt-small',
      instructions: 'triage',
      actions: ['ticket.read'],
      budget: { steps: 10, maxOutputTokens: 100 },
    }),
    defineAgent({
      id: 'support_senior',
      class: 'support',
      model: 'openai/gpt-large',
      instructions: 'decide',
      actions: ['ticket.read'],
      budget: { steps: 10, maxOutputTokens: 100 },
    }),
    defineAgent({
      id: 'finance_clerk',
      class: 'finance',
      model: 'local/tiny',
      instructions: 'count',
      actions: ['payment.refund'],
      budget: { steps: 10, maxOutputTokens: 100 },
    }),
  ],
});

/** A profile around its rules (YAML flow or block lines, indented by two) and other top-level parts. */
export const profile = (rules: string[], rest = ''): string =>
  [
    'apiVersion: bulkhead/v1',
    'kind: PolicyProfile',
    'metadata: { name: sample }',
    'environments: [prod]',
    rules.length > 0 ? 'rules:' : 'rules: []',
    ...rules.map((rule) => `  - ${rule}`),
    rest,
  ].join('\n');

/** Compiles or fails the test with the mistakes in words. */
export function compiled(text: string, version = 1): CompiledPolicy {
  const result = compileProfile({ text, version, actions: app.actions, agents: app.agents });
  if (!result.ok) throw new Error(formatMistakes(result.mistakes, 'sample.yaml'));
  return result.policy;
}

/** The mistakes of a text that must have some. */
export function mistakesOf(text: string): Mistake[] {
  const result = compileProfile({ text, version: 1, actions: app.actions, agents: app.agents });
  if (result.ok) throw new Error('this was meant to have mistakes');
  return result.mistakes;
}

/** A question; what is not said is an ordinary read by an ordinary agent. */
export function question(parts: Partial<PolicyRequest> = {}): PolicyRequest {
  const name = parts.action ?? 'ticket.read';
  return {
    agentId: 'support_triage',
    agentClass: 'support',
    workspaceId: 'main',
    environment: 'prod',
    principal: { kind: 'user', subject: 'u-1' },
    target: null,
    action: name,
    effect: name === 'model.generate' ? 'model' : (app.actions.get(name)?.effect ?? 'read'),
    reversible: reversibleOf(name),
    undo: false,
    system: app.actions.get(name)?.system ?? null,
    destination: null,
    model: name === 'model.generate' ? 'openai/gpt-small' : null,
    args: name === 'ticket.read' ? { ticketId: 't-1' } : {},
    facts: {},
    dataClasses: [],
    ...parts,
  };
}

/** As the gateway asks: reads and model calls have nothing to undo. */
function reversibleOf(name: string): PolicyRequest['reversible'] {
  const known = app.actions.get(name);
  return known && known.effect !== 'read' ? known.reversible : 'none';
}

export const refund = (amountCents: number, parts: Partial<PolicyRequest> = {}): PolicyRequest =>
  question({ action: 'payment.refund', args: { paymentId: 'p-1', amountCents }, ...parts });
