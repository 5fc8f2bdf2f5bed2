import { judge, type Verdict } from '../../activities/judge';
import { forwardCall } from '../../activities/tool-call';
import type { GovernedCall } from '../../activities/governed-call';
import type { RecordRef } from '../../contracts/action';
import { digestOf } from '../../contracts/digest';
import { PerRun, Limits, type TenantRecord } from '../../contracts/documents';
import { Envelope } from '../../contracts/envelope';
import { MODEL_ACTION } from '../../contracts/names';
import { runWorkflowId } from '../../contracts/workflow-ids';
import type { CompiledPolicy } from '../../contracts/policy-decision';
import { Environment, RunId, TenantId } from '../../contracts/ids';
import { draftOf } from '../../examples/support-desk/actions/draft';
import {
  tenantData,
  tenantDocuments,
  TENANTS,
  WORKSPACES,
  type Tenant,
} from '../../examples/support-desk/data';
import { documentValues } from '../../examples/support-desk/example';
import { compileProfile } from '../../policy/compile';
import { parseDocuments } from '../../policy/documents';
import type { Registry } from '../../policy/vocabulary';

/** One question of the table, and what the gateway decides of it. */
export interface Row {
  readonly key: string;
  readonly outcome: string;
}

/** The environment that the tenants are in, and another. */
const ENVIRONMENTS = ['prod', 'staging'] as const;

const MAIL = {
  ticketId: '',
  to: 'ann@customer.example',
  subject: 'Your order',
  body: 'Your order left today.',
};
const JUDGED = { compliance: 'passed', draft: draftOf(MAIL), customer_email: MAIL.to };

/** Arguments about the records of one tenant, and what the run knows by then. */
interface Asked {
  readonly args: Record<string, unknown>;
  readonly facts?: Record<string, string>;
}
type Ask = (ids: { ticketId: string; customerId: string; paymentId: string }, host: string) => Asked;

/** By action: what is asked, by name where more than one thing is. An action of the app that is not here has no rows. */
const QUESTIONS: Readonly<
  Record<string, { readonly ofRecords: boolean; readonly asks: Record<string, Ask> }>
> = {
  'compliance.classify': {
    ofRecords: false,
    asks: { '': () => ({ args: { subject: MAIL.subject, body: MAIL.body } }) },
  },
  'customer.read': { ofRecords: true, asks: { '': ({ customerId }) => ({ args: { customerId } }) } },
  'customer.update': {
    ofRecords: true,
    asks: {
      '': ({ customerId, ticketId }) => ({ args: { customerId, ticketId, field: 'phone', value: '+44 1' } }),
    },
  },
  'email.send': {
    ofRecords: true,
    asks: {
      judged: ({ ticketId }) => ({ args: { ...MAIL, ticketId, draft: draftOf(MAIL) }, facts: JUDGED }),
      unjudged: ({ ticketId }) => ({ args: { ...MAIL, ticketId, draft: draftOf(MAIL) } }),
    },
  },
  'knowledge.search': { ofRecords: false, asks: { '': () => ({ args: { query: 'refunds' } }) } },
  'payment.read': { ofRecords: true, asks: { '': ({ paymentId }) => ({ args: { paymentId } }) } },
  'payment.refund': {
    ofRecords: true,
    asks: {
      small: ({ paymentId, ticketId }) => ({
        args: { paymentId, ticketId, amountCents: 1_000, reason: 'late' },
      }),
      large: ({ paymentId, ticketId }) => ({
        args: { paymentId, ticketId, amountCents: 100_000, reason: 'late' },
      }),
    },
  },
  'ticket.read': { ofRecords: true, asks: { '': ({ ticketId }) => ({ args: { ticketId } }) } },
  'ticket.reply': {
    ofRecords: true,
    asks: {
      draft: ({ ticketId }) => ({ args: { ticketId, kind: 'draft', body: 'soon' } }),
      direct: ({ ticketId }) => ({ args: { ticketId, kind: 'direct', body: 'soon' } }),
    },
  },
  'ticket.search': { ofRecords: false, asks: { '': () => ({ args: { query: 'refunds' } }) } },
  'ticket.update': {
    ofRecords: true,
    asks: {
      '': ({ ticketId }) => ({
        args: { ticketId, status: 'solved', category: 'billing', priority: 'normal' },
      }),
    },
  },
  // Its resource is whoever's host the URL names.
  'web.fetch': { ofRecords: true, asks: { '': (_ids, host) => ({ args: { url: `http://${host}/` } }) } },
  [MODEL_ACTION]: { ofRecords: false, asks: { '': () => ({ args: {} }) } },
};

/** One ticket of each tenant, with its customer and payment. */
const IDS = Object.fromEntries(
  TENANTS.map((tenant) => {
    const { tickets, customers, payments } = tenantData(tenant);
    const [ticketId, customerId, paymentId] = [tickets[0]?.record, customers[0], payments[0]].map(
      (one) => one?.id ?? '',
    );
    return [tenant, { ticketId, customerId, paymentId }];
  }),
) as Record<Tenant, Parameters<Ask>[0]>;

interface Place {
  readonly tenant: Tenant;
  readonly agent: string;
  readonly action: string;
  readonly variant: string;
  /** Whose record, or host; `-` where the action has none. */
  readonly resource: Tenant | '-';
  readonly environment: string;
}
const keyOf = ({ tenant, agent, action, variant, resource, environment }: Place): string =>
  [tenant, agent, variant === '' ? action : `${action}(${variant})`, resource, environment].join(' ');

/** Every combination of the registered app; an action without questions is a combination that nothing covers. */
export function combinations(app: Registry): Place[] {
  const actions = [...app.actions.keys(), MODEL_ACTION].sort();
  return TENANTS.flatMap((tenant) =>
    [...app.agents.keys()].sort().flatMap((agent) =>
      actions.flatMap((action) => {
        const { ofRecords, asks } = QUESTIONS[action] ?? { ofRecords: true, asks: { '': undefined } };
        const resources: (Tenant | '-')[] = ofRecords ? [...TENANTS] : ['-'];
        return Object.keys(asks).flatMap((variant) =>
          resources.flatMap((resource) =>
            ENVIRONMENTS.map((environment) => ({ tenant, agent, action, variant, resource, environment })),
          ),
        );
      }),
    ),
  );
}

/** What the table must be: keys that it lacks, and rows that nothing of the app asks for any more. */
export function compare(app: Registry, rows: readonly Row[]): { uncovered: string[]; stale: string[] } {
  const wanted = new Set(combinations(app).map(keyOf));
  const there = new Set(rows.map(({ key }) => key));
  return {
    uncovered: [...wanted].filter((key) => !there.has(key)),
    stale: [...there].filter((key) => !wanted.has(key)),
  };
}

/** The rows of today: each decided by form, scope and policy, as the gateway does. */
export async function decideAll(app: Registry): Promise<Row[]> {
  return (await judgeAll(app)).map(({ key, verdict }) => {
    const rules = verdict.effect === 'deny' ? verdict.refusal.rules : verdict.rules;
    return { key, outcome: `${verdict.effect} ${withoutGrants(rules).join(',')}` };
  });
}

/** Which entry of `secrets` granted a credential moves with every entry before it. */
export const withoutGrants = (rules: readonly string[]): string[] =>
  rules.filter((rule) => !rule.startsWith('secrets['));

/** A question, and all that the gateway's judge says of it. */
export interface Judged {
  readonly key: string;
  readonly args: Readonly<Record<string, unknown>>;
  readonly verdict: Verdict;
  readonly policy: CompiledPolicy;
}

/** Asks the gateway's judge every combination; `change` rewrites each profile first, `undo` makes of each call an undo. */
export async function judgeAll(
  app: Registry,
  { change = (text) => text, undo = false }: { change?: (text: string) => string; undo?: boolean } = {},
): Promise<Judged[]> {
  const grounds = new Map(TENANTS.map((tenant) => [tenant, groundOf(tenant, app, change)]));
  const judged: Judged[] = [];
  for (const place of combinations(app)) {
    const ground = grounds.get(place.tenant);
    const ask = QUESTIONS[place.action]?.asks[place.variant];
    if (ground && ask) judged.push(await decide(place, ask, ground, app, undo));
  }
  return judged;
}

interface Ground {
  readonly policy: CompiledPolicy;
  readonly record: TenantRecord;
  /** All that the tenant owns, as if its run had read it. */
  readonly known: readonly RecordRef[];
}

function groundOf(tenant: Tenant, app: Registry, change: (text: string) => string): Ground {
  const urls = Object.fromEntries(
    ['helpdesk', 'crm', 'payments', 'mail', 'models'].map((name) => [name, 'http://127.0.0.1:4001']),
  );
  const parsed = parseDocuments(tenantDocuments(tenant, documentValues(urls, 'prod')));
  if (!parsed.ok) throw new Error(`${tenant}.yaml has mistakes`);
  const [profile, own] = ['PolicyProfile', 'Tenant'].map((kind) =>
    parsed.documents.find((one) => one.kind === kind),
  );
  if (profile?.kind !== 'PolicyProfile' || own?.kind !== 'Tenant')
    throw new Error(`${tenant}.yaml lacks a document`);
  const compiled = compileProfile({ text: change(profile.text), version: 1, ...app });
  if (!compiled.ok) throw new Error(`the policy of ${tenant} does not compile`);
  const { workspaces, connections, scope, models, prices } = own.document;
  const { tickets, customers, payments } = tenantData(tenant);
  const refs = (system: string, records: readonly { id: string; account: string }[]): RecordRef[] =>
    records.map(({ id, account }) => ({ system, id, account }));
  return {
    policy: compiled.policy,
    record: {
      tenantId: TenantId.parse(tenant),
      environment: Environment.parse('prod'),
      policyProfile: profile.document.metadata.name,
      quotaClass: 'any',
      lane: 'own',
      workerCeiling: 1,
      limits: Limits.parse({}),
      perRun: PerRun.parse({}),
      weight: 1,
      expensiveCeiling: 1,
      perAction: {},
      perAgent: {},
      timeZone: 'UTC',
      workspaces,
      connections,
      scope,
      models,
      prices,
    },
    known: [
      ...refs(
        'helpdesk',
        tickets.map(({ record }) => record),
      ),
      ...refs('crm', customers),
      ...refs('payments', payments),
    ],
  };
}

async function decide(
  place: Place,
  ask: Ask,
  { policy, record, known }: Ground,
  app: Registry,
  undo: boolean,
): Promise<Judged> {
  const { tenant, resource, environment } = place;
  const { args, facts = {} } = ask(
    IDS[resource === '-' ? tenant : resource],
    `${resource}.helpdesk.localhost`,
  );
  const verdict = await judge(
    { ...callOf(place, args, app), undoOf: undo ? '0.1' : null },
    envelopeOf(place),
    {
      versions: { policyVersion: 1, recordVersion: 1, factsVersion: 1 },
      facts,
      dataClasses: [],
      record: { ...record, environment: Environment.parse(environment) },
      known: [...known],
      sealed: null,
    },
    () => Promise.resolve({ policy }),
  );
  return { key: keyOf(place), args, verdict, policy };
}

function callOf({ agent, action }: Place, args: Record<string, unknown>, app: Registry): GovernedCall {
  const own = app.agents.get(agent);
  const asked = forwardCall({
    position: { step: 1, ordinal: 1 },
    seq: 0,
    asked: { id: 'c', name: action, args },
    lost: false,
    action: own?.actions.some((name) => name === action) ? app.actions.get(action) : undefined,
    agentClass: own?.class ?? '',
  });
  if (action !== MODEL_ACTION || !own) return asked;
  const [system = ''] = own.model.split('/');
  const model = {
    action,
    callClass: 'model',
    system,
    secret: `${system}:generate`,
    model: own.model,
  } as const;
  const destination = (tenant: TenantRecord) => ({
    url: new URL(tenant.connections[system] ?? 'http://nowhere.example'),
    connection: true,
  });
  return { ...asked, ...model, args: {}, refusedByForm: null, destination };
}

function envelopeOf({ tenant, agent, environment }: Place): Envelope {
  const runId = RunId.parse('run-1');
  return Envelope.parse({
    schemaVersion: 1,
    workflowId: runWorkflowId(TenantId.parse(tenant), Environment.parse(environment), runId),
    tenantId: tenant,
    environment,
    workspaceId: WORKSPACES[tenant],
    agentId: agent,
    agentVersion: '000000000000',
    runId,
    parentRunId: null,
    rootRunId: runId,
    policyProfile: 'any',
    quotaClass: 'any',
    requestedAction: agent,
    target: null,
    principal: { kind: 'service', subject: 'intake' },
    inputDigest: digestOf('input'),
    acceptedAt: '2026-01-01T00:00:00.000Z',
  });
}
