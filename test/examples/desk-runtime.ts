import { z } from 'zod';
import { actionOfToolName, toolNameOfAction } from '../../contracts/tool-names';
import type { Action, Attribute, GovernedHttp, RecordRef } from '../../contracts/action';
import { plainUrl } from '../../contracts/http-url';
import type { Refusal } from '../../contracts/refusal';
import type { CompiledPolicy } from '../../contracts/policy-decision';
import type { TenantDocument } from '../../contracts/documents';
import type { Envelope } from '../../contracts/envelope';
import { createHttpPools } from '../../tools/http';
import { app } from '../../examples/support-desk/app';

/** A tenant as the small runtime knows it. */
export interface DeskTenant {
  document: TenantDocument;
  policy: CompiledPolicy;
  readonly credentials: Map<string, string>;
  knowledge: readonly { documentId: string; title: string; text: string }[];
}

export interface DeskRun {
  readonly runId: string;
  readonly tenant: string;
  readonly workspace: string;
  readonly input: unknown;
  readonly target: RecordRef;
}

export interface DeskEnding {
  readonly stopReason: 'completed' | 'killed' | 'failed' | 'approval_denied';
  readonly toolCalls: number;
  readonly steps: number;
  readonly refusals: { action: string; refusal: Refusal }[];
  /** Actions that were suggested and not performed. */
  readonly suggested: string[];
}

/** Calls in flight of a tenant, and whether it was killed. */
export interface CallSlots {
  stopped(): boolean;
  /** `false` once the tenant is killed. */
  enter(key: string): Promise<boolean>;
  leave(): void;
  /** Asks a person: `false` where that one says no, or the tenant is killed. */
  approved(call: { action: string; args: unknown; path: string }): Promise<boolean>;
}

const Completion = z.looseObject({
  choices: z
    .array(
      z.looseObject({
        message: z.looseObject({
          content: z.string().nullable(),
          tool_calls: z
            .array(
              z.looseObject({
                id: z.string(),
                function: z.looseObject({ name: z.string(), arguments: z.string() }),
              }),
            )
            .optional(),
        }),
      }),
    )
    .length(1),
  usage: z.looseObject({ prompt_tokens: z.int().positive(), completion_tokens: z.int().positive() }),
});

const agent = app.agents.get('support_triage');
if (!agent) throw new Error('the support desk has no support_triage');
const MAX_STEPS = 12;

const denied = (rule: string, rules: readonly string[] = [rule], message = rule): Refusal => ({
  kind: 'denied',
  origin: 'policy',
  rule,
  rules: [...rules],
  message,
});

/**
 * Plays the runtime for one run, without an engine or a database: form, scope, policy, then the real action over the
 * real governed HTTP client against the real servers. No journal, no retries, no quotas.
 */
export async function playRun(tenant: DeskTenant, run: DeskRun, slots: CallSlots): Promise<DeskEnding> {
  const pools = createHttpPools();
  const known = new Map<string, RecordRef>([[`${run.target.system} ${run.target.id}`, run.target]]);
  const facts: Record<string, Attribute> = {};
  /** Classes of what the run has read so far. */
  const read = new Set<string>();
  const refusals: DeskEnding['refusals'] = [];
  const suggested: string[] = [];
  let deniedByPerson = false;
  let toolCalls = 0;
  const owns = ({ system, account }: RecordRef): boolean =>
    tenant.document.scope.some((own) => own.system === system && own.account === account);

  const httpFor = (
    url: string,
    connection: boolean,
    secret: string | null,
    key: string | null,
  ): GovernedHttp =>
    pools.open({
      poolKey: run.tenant,
      baseUrl: new URL(url),
      privateGranted: connection,
      authorization: secret === null ? null : () => `Bearer ${tenant.credentials.get(secret) ?? ''}`,
      idempotencyKey: key,
      signal: AbortSignal.timeout(20_000),
      beforeSend: () => undefined,
      remainingMs: () => 20_000,
    });

  const callTool = async (
    name: string,
    raw: unknown,
    key: string,
  ): Promise<{ outcome: 'done'; result: unknown } | { outcome: string; refusal: Refusal }> => {
    const refuse = (refusal: Refusal, action: string) => {
      refusals.push({ action, refusal });
      return { outcome: refusal.kind, refusal };
    };
    const action: Action | undefined = app.actions.get(actionOfToolName(name));
    if (!action) return refuse(denied('unknown_action'), 'unknown.action');
    const parsed = action.args.safeParse(raw);
    if (!parsed.success)
      return refuse(denied('schema', ['schema'], z.prettifyError(parsed.error)), action.name);
    const args = parsed.data;
    const foreign = (action.records?.(args, undefined) ?? []).find(
      ({ system, id }) => !known.has(`${system} ${id}`),
    );
    if (foreign) return refuse(denied('scope.record_unknown'), action.name);
    if (action.destination && !plainUrl(action.destination(args)))
      return refuse(denied('destination'), action.name);
    const url = action.destination
      ? action.destination(args)
      : action.system === null
        ? null
        : (tenant.document.connections[action.system as never] ?? '');
    const decision = tenant.policy.decide({
      agentId: 'support_triage',
      agentClass: 'support',
      workspaceId: run.workspace,
      environment: 'prod',
      principal: { kind: 'service', subject: 'test' },
      target: { system: run.target.system, recordId: run.target.id },
      action: action.name,
      effect: action.effect,
      reversible: action.effect === 'read' ? 'none' : action.reversible,
      undo: false,
      system: action.system,
      destination: url === null ? null : new URL(url).hostname,
      model: null,
      args,
      facts,
      dataClasses: [...new Set([...Object.values(action.dataClasses).flat(), ...read])].sort(),
    });
    if (decision.effect === 'deny')
      return refuse(denied(decision.rules[0] ?? '', decision.rules, decision.message), action.name);
    if (action.secret !== null) {
      const secret = tenant.policy.mayUseSecret('support_triage', action.secret);
      if (secret.effect === 'deny')
        return refuse(denied(secret.rules[0] ?? '', secret.rules, secret.message), action.name);
    }
    if (decision.effect === 'suggest') {
      suggested.push(action.name);
      const rule = decision.rules[0] ?? '';
      return { outcome: 'suggested', refusal: { ...denied(rule, decision.rules), kind: 'suggested' } };
    }
    if (decision.effect === 'approve' && !(await slots.approved({ action: action.name, args, path: key }))) {
      deniedByPerson = !slots.stopped();
      return { outcome: 'denied', refusal: { ...denied('approval_denied'), origin: 'control' } };
    }
    const context = {
      envelope: {} as Envelope,
      http: httpFor(
        url ?? 'http://nowhere.invalid',
        action.destination === null,
        action.secret,
        action.effect === 'read' ? null : key,
      ),
      knowledge: {
        search: (query: string, limit: number) =>
          Promise.resolve(
            tenant.knowledge
              .filter(({ title, text }) => `${title} ${text}`.toLowerCase().includes(query.toLowerCase()))
              .slice(0, limit)
              .map((found) => ({ ...found, score: 1 })),
          ),
      },
      idempotencyKey: key,
      signal: AbortSignal.timeout(20_000),
    };
    if (!(await slots.enter(key)))
      return { outcome: 'killed', refusal: { ...denied('killed'), kind: 'killed', origin: 'control' } };
    try {
      const result: unknown = action.result.parse(await action.run(context, args));
      const records = action.records?.(args, result) ?? [];
      if (!records.every(owns)) return refuse(denied('scope.record_foreign'), action.name);
      records.forEach((record) => known.set(`${record.system} ${record.id}`, record));
      for (const name of action.resultClasses) read.add(name);
      if (action.facts) Object.assign(facts, action.facts.schema.parse(action.facts.from(args, result)));
      if (action.verify && !(await action.verify(context, args, result)))
        throw new Error(`${action.name} reads back otherwise`);
      return { outcome: 'done', result };
    } catch (error) {
      return refuse(
        {
          ...denied('http'),
          kind: 'failed',
          origin: 'provider',
          message: error instanceof Error ? error.message : 'failed',
        },
        action.name,
      );
    } finally {
      slots.leave();
    }
  };

  const ended = (stopReason: DeskEnding['stopReason'], steps: number): DeskEnding => ({
    stopReason,
    toolCalls,
    steps,
    refusals,
    suggested,
  });
  const messages: unknown[] = [
    { role: 'system', content: agent?.instructions },
    { role: 'user', content: JSON.stringify(run.input) },
  ];
  const tools = (agent?.actions ?? []).map((name) => ({
    type: 'function',
    function: {
      name: toolNameOfAction(name),
      parameters: z.toJSONSchema(app.actions.get(name)?.args ?? z.object({}), { io: 'input' }),
    },
  }));
  try {
    for (let step = 0; step < MAX_STEPS; step += 1) {
      if (slots.stopped()) return ended('killed', step);
      const model = httpFor(
        tenant.document.connections['openai' as never] ?? '',
        true,
        'openai:generate',
        null,
      );
      const answer = await model.post('/chat/completions', {
        model: tenant.document.models['openai/support-desk'],
        messages,
        tools,
      });
      const message = Completion.parse(answer.body).choices[0]?.message;
      messages.push({ role: 'assistant', ...message });
      const calls = message?.tool_calls ?? [];
      if (calls.length === 0) return ended('completed', step);
      for (const [index, call] of calls.entries()) {
        if (slots.stopped()) return ended('killed', step);
        toolCalls += 1;
        const seen = await callTool(
          call.function.name,
          JSON.parse(call.function.arguments),
          `${run.runId}-${step}.${index + 1}`,
        );
        if (deniedByPerson) return ended('approval_denied', step);
        messages.push({ role: 'tool', tool_call_id: call.id, content: JSON.stringify(seen) });
      }
    }
    return ended('failed', MAX_STEPS);
  } finally {
    await pools.close();
  }
}
