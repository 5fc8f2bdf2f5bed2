import type { ModelMessage } from 'ai';
import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import {
  ConversationTooLarge,
  type CallAnswer,
  type ModelStep,
  type Position,
  type StoredModelStep,
} from '../contracts/calls';
import { digestOf } from '../contracts/digest';
import { MODEL_ACTION } from '../contracts/names';
import type { Envelope } from '../contracts/envelope';
import type { CompiledPolicy } from '../contracts/policy-decision';
import type { Storage, TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import type { StoredItem } from '../contracts/rows';
import { requireStorable } from './acting';
import { refusalOf } from './attempt';
import { assembleMessages, NotStored } from './conversation';
import { callingRun } from './call-context';
import { failure } from './failure';
import type { GovernedCall } from './governed-call';
import type { Gateway } from './gateway';
import { ForeignContext } from './markers';
import { askModel, questionOf, type Question } from './model-ask';
import { costOf, inputBound, storedBound } from './model-bounds';
import { throughFallbacks } from './model-fallback';
import { RestingModels } from './model-rest';
import type { Policies } from './policies';
import { missing } from './rewound';
import type { StoredSteps } from './stored-steps';
import { actionOfToolName } from '../contracts/tool-names';

/** Enough to tell the few calls of two steps apart; history holds one of each call. */
const ASKED_DIGEST_CHARS = 16;
/** Of one attempt of a model call. */
const MODEL_TIMEOUT_MS = 60_000;

/** The activity behind every model call: the conversation so far in, one stored step out. */
export function createCallModel(parts: {
  storage: Storage;
  steps: StoredSteps;
  policies: Policies;
  gateway: Gateway;
  actions: ReadonlyMap<string, Action>;
}) {
  const resting = new RestingModels();
  return async function callModel(input: {
    position: Position;
    seq: number;
  }): Promise<CallAnswer<ModelStep>> {
    const { scope, signed } = callingRun();
    const { envelope } = signed;
    const store = parts.storage.tenant(scope);
    const [conversation, agent] = await Promise.all([
      store.conversation(envelope.rootRunId).catch(tooLarge),
      store.agent(envelope.agentId, envelope.agentVersion),
    ]);
    if (!agent)
      throw failure(
        'ContractBroken',
        `version ${envelope.agentVersion} of agent ${envelope.agentId} is not registered`,
      );
    const messages =
      conversation instanceof ConversationTooLarge
        ? conversation
        : await messagesOf(store, envelope, conversation, input);
    const question = messages instanceof Error ? messages : questionOf(agent, messages, parts.actions);
    let stored: StoredModelStep | undefined;
    const answer = await throughFallbacks({
      model: agent.model,
      resting: {
        left: (model) => resting.left(scope, model),
        trouble: (model, retryAfterMs) => resting.trouble(scope, model, retryAfterMs),
        answered: (model) => resting.answered(scope, model),
      },
      fallbacks: async () => {
        const version = (await store.policyText())?.version;
        const inForce = version === undefined ? undefined : await parts.policies.inForce(store, version);
        return inForce && 'policy' in inForce ? inForce.policy.fallbacksOf(agent.model) : [];
      },
      ask: (model, another) =>
        parts.gateway.govern(
          modelCall({
            ...input,
            agent,
            model,
            another,
            question,
            actions: parts.actions,
            keep: (step) => (stored = step),
          }),
        ),
    });
    if (answer.kind === 'done' && stored) parts.steps.keep(store, envelope.rootRunId, answer.ref, stored);
    // The ledger holds what this activity gave it at settlement, so a recorded value is a model step again.
    return answer.kind === 'done' ? { ...answer, value: answer.value as ModelStep } : answer;
  };
}

/** Why a conversation is not asked about. */
type Unaskable = ForeignContext | ConversationTooLarge;

function tooLarge(error: unknown): ConversationTooLarge {
  if (error instanceof ConversationTooLarge) return error;
  throw error;
}

const overBudget = ({ message, bytes, most }: ConversationTooLarge): Refusal => ({
  ...refusalOf('budget_exceeded', 'platform', 'conversation_bytes', message),
  value: most,
  used: bytes,
});

/** The call of one model, the agent's own or one that answers in its place. */
function modelCall(of: {
  position: Position;
  seq: number;
  agent: Agent;
  /** `provider/model`. */
  model: string;
  question: Question | Unaskable;
  actions: ReadonlyMap<string, Action>;
  another: (policy: CompiledPolicy) => boolean;
  keep: (step: StoredModelStep) => void;
}): GovernedCall {
  const { agent, model, question, actions } = of;
  const [provider, name] = splitModel(model);
  const inputTokens = question instanceof Error ? 0 : inputBound(question);
  const instead = model !== agent.model;
  const storedBytes = storedBound(agent.budget.maxOutputTokens);
  return {
    position: of.position,
    undoOf: null,
    reversible: null,
    seenSeq: of.seq,
    site: 'agentRun.model',
    action: MODEL_ACTION,
    callClass: 'model',
    system: provider,
    secret: `${provider}:generate`,
    model,
    ...(instead && { insteadOf: agent.model }),
    agentClass: agent.class,
    timeoutMs: MODEL_TIMEOUT_MS,
    // Not the model: whichever answers is an attempt at one and the same call.
    args: {},
    dataClasses: [],
    schemaDigest: null,
    reserve: { toolCalls: 0, steps: 1, microUsd: 0, modelTokens: 0, storedBytes },
    bound: ({ prices }) => costOf(prices[model], inputTokens, agent.budget.maxOutputTokens),
    another: of.another,
    refusedByForm: question instanceof ConversationTooLarge ? overBudget(question) : null,
    destination: (record) => {
      const base = record.connections[provider];
      if (base !== undefined) return { url: new URL(base), connection: true };
      const message = `the tenant has no connection to the model provider ${provider}; add it to the Tenant document`;
      return refusalOf('denied', 'platform', 'connection_missing', message);
    },
    records: [],
    keyValidMs: null,
    visibleWithinMs: null,
    act: async (io) => {
      // Thrown in here, so that the ledger has it and a person gets it to review.
      if (question instanceof Error) throw question;
      const step = await askModel(io, io.record.models[model] ?? name, question, inputTokens);
      const payload: StoredModelStep = instead ? { ...step, model } : step;
      requireStorable(MODEL_ACTION, payload, storedBytes);
      of.keep(payload);
      const cost = costOf(io.record.prices[model], step.inputTokens, step.outputTokens);
      const value = {
        ...stepOf(payload, agent, actions),
        ...(cost.microUsd > 0 && { microUsd: cost.microUsd }),
      };
      return { payload, value, facts: {}, records: [], dataClasses: [], ...cost };
    },
    verify: null,
    reconcile: null,
    refusalPayload: () => null,
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

function stepOf(stored: StoredModelStep, agent: Agent, actions: ReadonlyMap<string, Action>): ModelStep {
  const known = (name: string): string | null =>
    agent.actions.find((action) => action === actionOfToolName(name)) ?? null;
  return {
    toolCalls: stored.toolCalls.map(({ name }) => known(name)),
    inputTokens: stored.inputTokens,
    outputTokens: stored.outputTokens,
    ...(stored.model !== undefined && { model: stored.model }),
    asked: stored.toolCalls.map(({ name, args }) => ({
      digest: digestOf({ name, args }).slice(0, ASKED_DIGEST_CHARS),
      write: (actions.get(known(name) ?? '')?.effect ?? 'read') !== 'read',
    })),
  };
}

function splitModel(model: string): [string, string] {
  const slash = model.indexOf('/');
  return [model.slice(0, slash), model.slice(slash + 1)];
}
