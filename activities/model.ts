import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, jsonSchema, tool, type ModelMessage, type ToolSet } from 'ai';
import { z } from 'zod';
import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import type { CallAnswer, ModelStep, Position, StoredModelStep } from '../contracts/calls';
import { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../contracts/http-errors';
import { MODEL_ACTION } from '../contracts/names';
import type { Envelope } from '../contracts/envelope';
import type { Storage, StoredItem, TenantStore } from '../contracts/ports';
import { assembleMessages, NotStored } from './conversation';
import { callingRun } from './call-context';
import { failure } from './failure';
import type { ActIo } from './governed-call';
import type { Gateway } from './gateway';
import { ForeignContext } from './markers';
import { missing } from './rewound';
import type { StoredSteps } from './stored-steps';
import { actionOfToolName, toolNameOfAction } from './tool-names';

/** Of one attempt of a model call. */
const MODEL_TIMEOUT_MS = 60_000;

/** The activity behind every model call: the conversation so far in, one stored step out. */
export function createCallModel(parts: {
  storage: Storage;
  steps: StoredSteps;
  gateway: Gateway;
  actions: ReadonlyMap<string, Action>;
}) {
  return async function callModel(input: {
    position: Position;
    seq: number;
  }): Promise<CallAnswer<ModelStep>> {
    const { scope, signed } = callingRun();
    const { envelope } = signed;
    const store = parts.storage.tenant(scope);
    const [conversation, agent] = await Promise.all([
      store.conversation(envelope.rootRunId),
      store.agent(envelope.agentId, envelope.agentVersion),
    ]);
    if (!agent)
      throw failure(
        'ContractBroken',
        `version ${envelope.agentVersion} of agent ${envelope.agentId} is not registered`,
      );
    const messages = await messagesOf(store, envelope, conversation, input);
    const [provider, model] = splitModel(agent.model);
    let stored: StoredModelStep | undefined;
    const answer = await parts.gateway.govern({
      position: input.position,
      undoOf: null,
      reversible: null,
      seenSeq: input.seq,
      site: 'agentRun.model',
      action: MODEL_ACTION,
      callClass: 'model',
      system: provider,
      secret: `${provider}:generate`,
      model: agent.model,
      agentClass: agent.class,
      timeoutMs: MODEL_TIMEOUT_MS,
      args: {},
      dataClasses: [],
      schemaDigest: null,
      reserve: { toolCalls: 0, steps: 1, microUsd: 0 },
      refusedByForm: null,
      destination: (record) => {
        const base = record.connections[provider];
        if (base !== undefined) return { url: new URL(base), connection: true };
        const message = `the tenant has no connection to the model provider ${provider}; add it to the Tenant document`;
        return {
          kind: 'denied',
          origin: 'platform',
          rule: 'connection_missing',
          rules: ['connection_missing'],
          message,
        };
      },
      records: [],
      keyValidMs: null,
      visibleWithinMs: null,
      act: async (io) => {
        // Thrown in here, so that the ledger has it and a person gets it to review.
        if (messages instanceof ForeignContext) throw messages;
        stored = await ask({ io, agent, model, messages, actions: parts.actions });
        const value = stepOf(stored, agent);
        return { payload: stored, value, facts: {}, records: [], dataClasses: [], microUsd: 0 };
      },
      verify: null,
      reconcile: null,
      refusalPayload: () => null,
    });
    if (answer.kind === 'done' && stored) parts.steps.keep(store, envelope.rootRunId, answer.ref, stored);
    // The ledger holds what this activity gave it at settlement, so a recorded value is a model step again.
    return answer.kind === 'done' ? { ...answer, value: answer.value as ModelStep } : answer;
  };
}

/**
 * The conversation, or why it may not be sent. One with a hole in it means that the ledger was restored, or a defect of
 * ours.
 */
async function messagesOf(
  store: TenantStore,
  envelope: Envelope,
  conversation: readonly StoredItem[],
  { position, seq }: { position: Position; seq: number },
): Promise<ModelMessage[] | ForeignContext> {
  const runId = envelope.rootRunId;
  try {
    return assembleMessages(envelope, conversation, position.step);
  } catch (error) {
    if (error instanceof ForeignContext) return error;
    if (!(error instanceof NotStored)) throw error;
    throw await missing(store, { runId, path: error.ref === 'input' ? null : error.ref, seq }, error.message);
  }
}

async function ask(parts: {
  io: ActIo;
  agent: Agent;
  model: string;
  messages: ModelMessage[];
  actions: ReadonlyMap<string, Action>;
}): Promise<StoredModelStep> {
  const { io, agent, model, messages, actions } = parts;
  const provider = createOpenAICompatible({
    name: 'tenant',
    baseURL: io.baseUrl?.href.replace(/\/$/, '') ?? '',
    // The grant adds the credential at the moment of sending; the SDK never sees it.
    fetch: io.fetch,
  });
  const answer = await generateText({
    model: provider.chatModel(io.record.models[agent.model] ?? model),
    system: agent.instructions,
    messages,
    tools: toolsOf(agent, actions),
    maxOutputTokens: agent.budget.maxOutputTokens,
    maxRetries: 0,
    abortSignal: io.signal,
  }).catch((error: unknown) => {
    throw ours(error);
  });
  return {
    kind: 'model',
    text: answer.text,
    toolCalls: answer.toolCalls.map(({ toolCallId, toolName, input }) => ({
      id: toolCallId,
      name: toolName,
      args: storable(input),
    })),
    inputTokens: answer.usage.inputTokens ?? 0,
    outputTokens: answer.usage.outputTokens ?? 0,
  };
}

/** Arguments nested deeper than this are nobody's: canonical JSON is made by recursion. */
const MAX_DEPTH = 500;

/**
 * The arguments as they can be stored. What has no JSON form (`1e400` is read as infinity) or is nested too deeply becomes
 * `null`, which is in no schema: the call is refused by its form, and the model is told.
 */
function storable(args: unknown): unknown {
  let level: unknown[] = [args];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > MAX_DEPTH || level.some((value) => typeof value === 'number' && !Number.isFinite(value)))
      return null;
    level = level.flatMap((value) =>
      typeof value === 'object' && value !== null ? Object.values(value as Record<string, unknown>) : [],
    );
  }
  return args ?? null;
}

function stepOf(stored: StoredModelStep, agent: Agent): ModelStep {
  const known = (name: string): string | null =>
    agent.actions.find((action) => action === actionOfToolName(name)) ?? null;
  return {
    toolCalls: stored.toolCalls.map(({ name }) => known(name)),
    inputTokens: stored.inputTokens,
    outputTokens: stored.outputTokens,
  };
}

/** Tools as the model sees them, without `execute`: a model asks, the gateway acts. */
function toolsOf(agent: Agent, actions: ReadonlyMap<string, Action>): ToolSet {
  return Object.fromEntries(
    agent.actions.flatMap((name) => {
      const action = actions.get(name);
      if (!action) return [];
      // A plain JSON schema: the gateway is the one that judges arguments, not the SDK.
      const inputSchema = jsonSchema(
        z.toJSONSchema(action.args, { unrepresentable: 'any', io: 'input' }) as Parameters<
          typeof jsonSchema
        >[0],
      );
      return [[toolNameOfAction(name), tool({ description: action.description, inputSchema })]];
    }),
  );
}

/** The SDK wraps what `fetch` threw, and reports a status as its own error: back to the four ways a request fails. */
function ours(error: unknown): unknown {
  const own = ownCause(error);
  if (own) return own;
  if (!APICallError.isInstance(error)) return error;
  const status = error.statusCode;
  if (status === undefined) return new HttpUnavailable('the model provider gave no usable answer');
  if (status === 429)
    return new HttpNotSent(
      'the model provider answered 429; nothing was charged',
      retryAfterMs(error.responseHeaders),
    );
  if (status >= 500)
    return new HttpUnavailable(`the model provider answered ${status}`, retryAfterMs(error.responseHeaders));
  return new HttpRefused(`the model provider answered ${status}`, status, null);
}

function ownCause(error: unknown): Error | undefined {
  for (
    let cause: unknown = error, depth = 0;
    cause instanceof Error && depth < 6;
    cause = cause.cause, depth += 1
  ) {
    if (cause instanceof HttpForbidden || cause instanceof HttpNotSent || cause instanceof HttpUnavailable)
      return cause;
  }
  return undefined;
}

function retryAfterMs(headers: Record<string, string> | undefined): number | undefined {
  const seconds = Number(headers?.['retry-after'] ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? Math.round(seconds * 1_000) : undefined;
}

function splitModel(model: string): [string, string] {
  const slash = model.indexOf('/');
  return [model.slice(0, slash), model.slice(slash + 1)];
}
