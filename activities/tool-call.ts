import { z } from 'zod';
import type { Action, ActionContext } from '../contracts/action';
import {
  STORED_BESIDE_BYTES,
  type Position,
  type StoredModelStep,
  type StoredToolResult,
} from '../contracts/calls';
import type { TenantRecord } from '../contracts/documents';
import type { CallRow } from '../contracts/rows';
import { plainUrl } from '../contracts/http-url';
import type { Refusal } from '../contracts/refusal';
import { shownBy } from '../contracts/shown';
import { ResultOutOfSchema, requireModest, requireStorable } from './acting';
import { callingRun } from './call-context';
import type { Acted, ActIo, Destination, GovernedCall } from './governed-call';

/** Milliseconds of a call that is refused by its form and never acts. */
const FORM_TIMEOUT_MS = 1_000;

/** A tool call as a model asked for it at a position, and the action it names: `undefined` where its agent has none. */
export interface AskedCall {
  readonly position: Position;
  readonly seq: number;
  readonly asked: StoredModelStep['toolCalls'][number];
  /** Its arguments were lost with a restored database: what stands in their place is nobody's. */
  readonly lost: boolean;
  readonly action: Action | undefined;
  readonly agentClass: string;
}

/** The governed call that a model asked for: the same, with the same digest, whichever workflow makes it. */
export function forwardCall({ position, seq, asked, lost, action, agentClass }: AskedCall): GovernedCall {
  const shared = {
    position,
    undoOf: null,
    seenSeq: seq,
    site: 'agentRun.tool',
    model: null,
    agentClass,
    reserve: {
      toolCalls: 1,
      steps: 1,
      microUsd: action?.costMicroUsd ?? 0,
      modelTokens: 0,
      storedBytes: (action?.maxResultBytes ?? 0) + STORED_BESIDE_BYTES,
    },
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
  if (lost) {
    const refusal = byForm(
      'arguments_lost',
      'the arguments of this call were lost; ask for it again if it is still needed',
    );
    return {
      ...shared,
      ...REFUSED,
      action: action.name,
      callClass: action.effect,
      reversible: reversibleOf(action),
      system: action.system,
      refusedByForm: refusal,
      refusalPayload: observation(action.name),
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
      reversible: reversibleOf(action),
      system: action.system,
      refusedByForm: refusal,
      // What is wrong quotes the model's own words, so it is told to nobody but the model.
      refusalPayload: observation(action.name, firstOf(parsed.error)),
    };
  }
  const args = parsed.data;
  return {
    ...shared,
    action: action.name,
    callClass: action.effect,
    reversible: reversibleOf(action),
    system: action.system,
    secret: action.secret,
    timeoutMs: action.timeoutMs,
    args,
    dataClasses: classesOf(action, args),
    schemaDigest: action.schemaDigest,
    refusedByForm: null,
    destination: (record) => destinationOf(action, args, record),
    records: action.records?.(args, undefined) ?? [],
    keyValidMs: action.remoteHonoursKeys ? action.keyValidForMs : null,
    visibleWithinMs: action.visibleWithinMs,
    act: async (io) => acted(action, args, await action.run(contextOf(io), args)),
    verify: verifyOf(action, args),
    reconcile: reconcileOf(action, args),
    refusalPayload: observation(action.name),
  };
}

/**
 * The governed call that undoes a write, by the action's own `compensate`: with the write's arguments and its stored result,
 * of its class, from a reserve that no limit of the tenant or the run counts (promise T5). What it answers is not kept.
 */
export function undoOf(
  { position, seq, asked, lost, action, agentClass }: AskedCall,
  forward: CallRow,
  result: { readonly value: unknown } | undefined,
): GovernedCall {
  const shared = {
    position,
    undoOf: forward.path,
    seenSeq: seq,
    site: 'undo',
    model: null,
    agentClass,
    action: forward.action,
    callClass: forward.callClass,
    reversible: forward.reversible,
    reserve: { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 },
    // Not part of the conversation: no model is told, and an undo that policy refused may be asked for again.
    refusalPayload: () => null,
  } as const;
  const args = lost ? undefined : action?.args.safeParse(asked.args).data;
  const compensate = action?.compensate;
  if (!action || !args || !compensate || !result) {
    const message = `${forward.action} cannot undo what it did any more: the action, its arguments, its compensate or the stored result is gone`;
    return { ...shared, ...UNUSABLE, refusedByForm: byForm('undo_impossible', message) };
  }
  return {
    ...shared,
    system: action.system,
    secret: action.secret,
    timeoutMs: action.timeoutMs,
    args,
    dataClasses: classesOf(action, args),
    schemaDigest: action.schemaDigest,
    refusedByForm: null,
    destination: (record) => destinationOf(action, args, record),
    records: action.records?.(args, undefined) ?? [],
    keyValidMs: action.remoteHonoursKeys ? action.keyValidForMs : null,
    visibleWithinMs: null,
    act: async (io) => {
      await compensate(contextOf(io), args, result.value);
      const payload = { kind: 'tool', outcome: 'done', action: action.name, result: null } as const;
      return { payload, value: null, facts: {}, records: [], dataClasses: [], microUsd: 0, modelTokens: 0 };
    },
    verify: null,
    // The action's look-up is for what it did, not for what undid it.
    reconcile: null,
  };
}

/** Classes of the arguments that the call carries: one that is left out carries nothing. */
const classesOf = ({ dataClasses }: Action, args: Readonly<Record<string, unknown>>): string[] =>
  Object.entries(dataClasses).flatMap(([arg, classes]) => (args[arg] === undefined ? [] : classes));

const reversibleOf = ({ effect, reversible }: Action): GovernedCall['reversible'] =>
  effect === 'read' ? null : reversible;

const UNUSABLE = {
  system: null,
  secret: null,
  timeoutMs: FORM_TIMEOUT_MS,
  args: {},
  dataClasses: [],
  schemaDigest: null,
  destination: () => null,
  records: [],
  keyValidMs: null,
  visibleWithinMs: null,
  act: () => Promise.reject(new TypeError('a call refused by its form does not act')),
  verify: null,
  reconcile: null,
} as const satisfies Partial<GovernedCall>;

/** What is not known by its form is no write. */
const REFUSED = { ...UNUSABLE, callClass: 'read', reversible: null } as const;

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

/** The first mistakes, in a thousand characters at most: a model mends one after the other. */
const firstOf = ({ issues }: z.ZodError): string =>
  z.prettifyError(new z.ZodError(issues.slice(0, 20))).slice(0, 1_000);

/** The URL that policy judges: the tenant's connection, or the one that the arguments name. */
function destinationOf(action: Action, args: unknown, record: TenantRecord): Destination | Refusal | null {
  if (action.destination) {
    const url = plainUrl(action.destination(args));
    return url
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
  requireModest(action.name, result);
  const parsed = action.result.safeParse(result);
  if (!parsed.success) throw new ResultOutOfSchema(action.name);
  requireStorable(action.name, parsed.data, action.maxResultBytes);
  return {
    payload: { kind: 'tool', outcome: 'done', action: action.name, result: parsed.data },
    value: null,
    ...shownBy(action, args, parsed.data),
    microUsd: action.costMicroUsd,
    modelTokens: 0,
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
