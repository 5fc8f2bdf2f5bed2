import { z } from 'zod';
import type { Action, ActionContext } from '../contracts/action';
import type { CallAnswer, Position, StoredModelStep, StoredToolResult } from '../contracts/calls';
import { positionPath } from '../contracts/calls';
import type { TenantRecord } from '../contracts/documents';
import type { Storage } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import { ResultOutOfSchema } from './acting';
import { callingRun } from './call-context';
import { failure } from './failure';
import type { Acted, ActIo, Destination, GovernedCall } from './governed-call';
import type { Gateway } from './gateway';
import type { StoredSteps } from './stored-steps';
import { actionOfToolName } from './tool-names';

/** Milliseconds of a call that is refused by its form and never acts. */
const FORM_TIMEOUT_MS = 1_000;

/** The activity behind every tool call: from what the model asked for to a governed call. */
export function createCallTool(parts: {
  storage: Storage;
  steps: StoredSteps;
  gateway: Gateway;
  actions: ReadonlyMap<string, Action>;
}) {
  return async function callTool(input: {
    position: Position;
    source: Position;
    index: number;
    seq: number;
  }): Promise<CallAnswer<null>> {
    const { scope, signed } = callingRun();
    const { envelope } = signed;
    const store = parts.storage.tenant(scope);
    const [step, agent] = await Promise.all([
      parts.steps.read(store, envelope.rootRunId, positionPath(input.source)),
      store.agent(envelope.agentId, envelope.agentVersion),
    ]);
    const asked = step?.toolCalls[input.index];
    if (!asked || !agent)
      throw failure(
        'ContractBroken',
        `no tool call ${input.index} is stored for step ${input.source.step} of this run`,
      );
    const name = actionOfToolName(asked.name);
    const action = agent.actions.some((own) => own === name) ? parts.actions.get(name) : undefined;
    // A copy: an action may change what it is given, and the step is kept.
    const call = governedCall({ input, asked: structuredClone(asked), action, agentClass: agent.class });
    const answer = await parts.gateway.govern(call);
    return answer.kind === 'done' ? { ...answer, value: null } : answer;
  };
}

type Asked = StoredModelStep['toolCalls'][number];

function governedCall(parts: {
  input: { position: Position; seq: number };
  asked: Asked;
  action: Action | undefined;
  agentClass: string;
}): GovernedCall {
  const { input, asked, action, agentClass } = parts;
  const shared = {
    position: input.position,
    seenSeq: input.seq,
    site: 'agentRun.tool',
    model: null,
    agentClass,
    reserve: { toolCalls: 1, steps: 1, microUsd: action?.costMicroUsd ?? 0 },
  } as const;
  if (!action) {
    // The name is the model's own words, so it is told to nobody but the model.
    const refusal = byForm('unknown_action', 'this agent has no such action');
    return {
      ...shared,
      ...REFUSED,
      action: 'unknown.action',
      refusedByForm: refusal,
      refusalPayload: observation('unknown.action'),
    };
  }
  const parsed = action.args.safeParse(asked.args);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.length;
    const refusal = byForm('schema', `the arguments are not in the action's schema: ${mistakes} mistakes`);
    return {
      ...shared,
      ...REFUSED,
      action: action.name,
      callClass: action.effect,
      system: action.system,
      refusedByForm: refusal,
      // What is wrong quotes the model's own words, so it is told to nobody but the model.
      refusalPayload: observation(action.name, z.prettifyError(parsed.error).slice(0, 1_000)),
    };
  }
  const args = parsed.data;
  return {
    ...shared,
    action: action.name,
    callClass: action.effect,
    system: action.system,
    secret: action.secret,
    timeoutMs: action.timeoutMs,
    args,
    refusedByForm: null,
    destination: (record) => destinationOf(action, args, record),
    records: action.records?.(args, undefined) ?? [],
    keyValidMs: action.remoteHonoursKeys ? action.keyValidForMs : null,
    act: async (io) => acted(action, args, await action.run(contextOf(io), args)),
    verify: verifyOf(action, args),
    reconcile: reconcileOf(action, args),
    refusalPayload: observation(action.name),
  };
}

const REFUSED = {
  callClass: 'read',
  system: null,
  secret: null,
  timeoutMs: FORM_TIMEOUT_MS,
  args: {},
  destination: () => null,
  records: [],
  keyValidMs: null,
  act: () => Promise.reject(new TypeError('a call refused by its form does not act')),
  verify: null,
  reconcile: null,
} as const satisfies Partial<GovernedCall>;

const byForm = (rule: string, message: string): Refusal => ({
  kind: 'denied',
  origin: 'policy',
  rule,
  rules: [rule],
  message,
});

const observation =
  (action: string, detail?: string) =>
  (refusal: Refusal): StoredToolResult => ({
    kind: 'tool',
    outcome: refusal.kind,
    action,
    refusal,
    ...(detail === undefined ? {} : { detail }),
  });

/** The URL that policy judges: the tenant's connection, or the one that the arguments name. */
function destinationOf(action: Action, args: unknown, record: TenantRecord): Destination | Refusal | null {
  if (action.destination) {
    const url = URL.parse(action.destination(args));
    const usable = url && /^https?:$/.test(url.protocol) && !url.username && !url.password;
    return usable
      ? { url, connection: false }
      : byForm('destination', 'the destination is not a plain http(s) URL');
  }
  if (action.system === null) return null;
  const base = record.connections[action.system];
  if (base === undefined) {
    return {
      ...byForm(
        'connection_missing',
        `the tenant has no connection to ${action.system}; add it to the Tenant document`,
      ),
      origin: 'platform',
    };
  }
  return { url: new URL(base), connection: true };
}

/** A result that is not in the action's schema is not believed: the action's own promise is broken. */
function acted(action: Action, args: unknown, result: unknown): Acted {
  const parsed = action.result.safeParse(result);
  if (!parsed.success) throw new ResultOutOfSchema(action.name);
  return {
    payload: { kind: 'tool', outcome: 'done', action: action.name, result: parsed.data },
    value: null,
    facts: action.facts
      ? (action.facts.schema.parse(action.facts.from(args, parsed.data)) as Acted['facts'])
      : {},
    records: action.records?.(args, parsed.data) ?? [],
    microUsd: action.costMicroUsd,
  };
}

function verifyOf(action: Action, args: unknown): GovernedCall['verify'] {
  const { verify } = action;
  if (!verify) return null;
  return async (io, { payload }) =>
    payload.kind === 'tool' &&
    payload.outcome === 'done' &&
    (await verify(contextOf(io), args, payload.result));
}

function reconcileOf(action: Action, args: unknown): GovernedCall['reconcile'] {
  const { reconcile } = action;
  if (!reconcile) return null;
  return async (io) => {
    const found = await reconcile(contextOf(io), args, io.idempotencyKey);
    return typeof found === 'object' ? { happened: true, acted: acted(action, args, found.result) } : found;
  };
}

/** The action's own view: nothing of leases, hosts or other tenants. */
function contextOf(io: ActIo): ActionContext {
  return {
    envelope: callingRun().signed.envelope,
    http: io.http,
    knowledge: io.knowledge,
    idempotencyKey: io.idempotencyKey,
    signal: io.signal,
  };
}
