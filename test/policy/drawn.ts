import type { PolicyRequest } from '../../contracts/policy-decision';
import { type Bool, CLASSES, type Draw, condition, written } from './drawn-expressions';
import { profile, question } from './sample';

/** Profiles and questions at random, from alphabets that nearly collide, for the independent evaluator. */

export interface DrawnRule {
  readonly id: string;
  readonly effect: 'allow' | 'approve' | 'suggest' | 'forbid';
  readonly agents?: string[] | undefined;
  readonly actions?: string[] | undefined;
  readonly workspaces?: string[] | undefined;
  readonly destinations?: string[] | undefined;
  readonly exceptDestinations?: string[] | undefined;
  readonly dataClasses?: string[] | undefined;
  readonly when?: Bool | undefined;
  readonly unless?: Bool | undefined;
  readonly approvers?:
    { roles: string[]; expiresAfter?: string | undefined; notRequester?: boolean | undefined } | undefined;
}
export interface DrawnProfile {
  readonly rules: readonly DrawnRule[];
  readonly models: readonly { model: string; dataClasses?: string[] | undefined }[];
}

const HOSTS = ['*', '*', '*.ok.example', 'ok.example', 'a.*.example', '*ok*', 'OK.example'].concat(
  'https://*.ok.example',
  'http://*ok*',
  'http://*:8080',
  '*.example:8080',
);
const repeated = (['allow', 'approve', 'suggest', 'forbid'] as const).flatMap((effect, index) =>
  Array<typeof effect>([9, 8, 6, 2][index] ?? 0).fill(effect),
);
function rule(draw: Draw, id: string): DrawnRule {
  // Allow is the weakest, and of reads and model calls suggest says nothing: drawn more often, all decide as often.
  const effect = draw.of(...repeated);
  const forbids = effect === 'forbid';
  const actions = (): string[] =>
    draw.some('*', 'ticket.*', 'payment.refund', '*.refund', 'email.send', 'web.fetch', '*e*', 'ticket.read');
  return {
    id,
    effect,
    agents: draw.maybe(0.2, () => draw.some('support_*', 'support_triage', '*_clerk', '*', '*s*')),
    actions: forbids ? draw.maybe(0.7, actions) : actions(),
    workspaces: draw.maybe(0.2, () => draw.some('main', 'second', 'main-2')),
    destinations: draw.maybe(0.2, () => draw.some(...HOSTS)),
    exceptDestinations: forbids ? draw.maybe(0.5, () => draw.some(...HOSTS)) : undefined,
    dataClasses: draw.maybe(0.2, () => draw.some(...CLASSES)),
    when: draw.maybe(forbids ? 0.9 : 0.3, () => condition(draw, 2)),
    unless: draw.maybe(forbids ? 0.5 : 0.2, () => condition(draw, 1)),
    approvers:
      effect === 'approve' || (effect === 'suggest' && draw.chance(0.5))
        ? {
            roles: draw.some('finance', 'legal', 'operator', 'lead'),
            expiresAfter: draw.maybe(0.6, () => draw.of('24h', '90s', '60m', '1h', '2d')),
            notRequester: draw.maybe(0.5, () => draw.chance(0.5)),
          }
        : undefined,
  };
}

export function drawProfile(draw: Draw): DrawnProfile {
  const [count, numbers] = [draw.int(2, 8), draw.chance(0.3)];
  const rules: DrawnRule[] = [];
  for (let index = 0; index < count; index++) {
    const id = numbers ? `${20 - index}` : `r${index}`;
    const before = rules.at(-1);
    rules.push(before && draw.chance(0.05) ? { ...before, id, workspaces: ['main'] } : rule(draw, id));
  }
  return {
    rules,
    models: draw.some('openai/*', 'local/tiny', '*/tiny', '*').map((model) => ({
      model,
      dataClasses: draw.maybe(0.5, () => draw.some(...CLASSES)),
    })),
  };
}

export function drawRequest(draw: Draw): PolicyRequest {
  const agent = draw.of('support_triage', 'support_senior', 'finance_clerk', 'stranger');
  const writes = ['payment.refund', 'email.send'];
  const action = draw.of(...writes, ...writes, ...writes, 'ticket.read', 'model.generate');
  const amounts = [-4, 0, 1, 3, 40, 41, 2_000, Number.MAX_SAFE_INTEGER, -Number.MAX_SAFE_INTEGER];
  const args: Record<string, Record<string, unknown>> = {
    'payment.refund': {
      paymentId: draw.of('p-1', 'p-2', 'p-', 'a'),
      amountCents: draw.chance(0.01) ? 0.5 : draw.of(...amounts),
    },
    'email.send': { to: 'a', body: 'b' },
    'ticket.read': { ticketId: 't' },
  };
  return question({
    agentId: agent,
    agentClass: agent === 'finance_clerk' ? 'finance' : 'support',
    action,
    args: args[action] ?? {},
    model: action === 'model.generate' ? draw.of('openai/gpt-small', 'local/tiny', 'localx/tiny') : null,
    undo: draw.chance(0.3),
    reversible: draw.of('none', 'reversible', 'compensable', 'final'),
    workspaceId: draw.of('main', 'main', 'second', 'main-2', 'mai'),
    environment: draw.chance(0.02) ? 'staging' : 'prod',
    principal: { kind: draw.of('user', 'service'), subject: draw.of('u-1', 'p-1') },
    target: draw.chance(0.5) ? null : { system: 'payments', recordId: 'p-1' },
    destination: draw.chance(0.01)
      ? 'a:443'
      : draw.of(
          null,
          null,
          'ok.example',
          'a.ok.example',
          'A.OK.example',
          'notok.example.',
          'ok.example.org',
          'a.b',
        ),
    ...draw.of<Partial<PolicyRequest>>(
      {},
      { endpoint: null },
      { endpoint: { scheme: 'http', port: 8080, connection: true } },
      {
        endpoint: {
          scheme: draw.of('http', 'https'),
          port: draw.of(80, 443, 8080),
          connection: draw.chance(0.2),
        },
      },
    ),
    facts: {
      ...draw.of({}, { vip: true }, { vip: false }),
      ...draw.of({}, { compliance: 'passed' }, { compliance: 'failed' }),
      ...draw.of({}, { score: 3 }, { score: -2 }, { score: Number.MAX_SAFE_INTEGER }),
    },
    dataClasses: CLASSES.filter(() => draw.chance(0.3)),
  });
}

export const profileText = ({ rules, models }: DrawnProfile): string =>
  profile(
    rules.map(({ when, unless, ...rest }) =>
      JSON.stringify({ ...rest, when: when && written(when), unless: unless && written(unless) }),
    ),
    `models: ${JSON.stringify({ allow: models })}`,
  );
