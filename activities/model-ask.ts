import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  APICallError,
  generateText,
  jsonSchema,
  tool,
  type LanguageModelUsage,
  type ModelMessage,
  type ToolSet,
} from 'ai';
import { z } from 'zod';
import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import type { StoredModelStep } from '../contracts/calls';
import { MODEL_ACTION } from '../contracts/names';
import { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../contracts/http-errors';
import { holdsNoNumber, overgrown } from '../contracts/json-shape';
import { retryAfterMs } from '../contracts/retry-after';
import { ResultTooLarge } from './acting';
import type { ActIo } from './governed-call';
import { usageOf, type Prompt, type ToldUsage } from './model-bounds';
import { toolNameOfAction } from '../contracts/tool-names';

type ArgsSchema = Parameters<typeof jsonSchema>[0];

/** A tool as a model sees it. */
interface ShownTool {
  readonly name: string;
  readonly description: string;
  readonly schema: ArgsSchema;
}

/** One question to a model, whichever model is asked. */
export interface Question extends Prompt {
  readonly messages: ModelMessage[];
  readonly tools: readonly ShownTool[];
  readonly maxOutputTokens: number;
}

/** What an agent's model is asked after this conversation. */
export function questionOf(
  agent: Agent,
  messages: ModelMessage[],
  actions: ReadonlyMap<string, Action>,
): Question {
  const tools = agent.actions.flatMap((name) => {
    const action = actions.get(name);
    if (!action) return [];
    // A plain JSON schema: the gateway is the one that judges arguments, not the SDK.
    const schema = z.toJSONSchema(action.args, { unrepresentable: 'any', io: 'input' }) as ArgsSchema;
    return [{ name: toolNameOfAction(name), description: action.description, schema }];
  });
  return { system: agent.instructions, messages, tools, maxOutputTokens: agent.budget.maxOutputTokens };
}

/** Calls in one answer: each of them costs events of the run's history, also where it is refused at once. */
const MAX_CALLS_ASKED = 64;

/**
 * Asks once, without streaming, so that usage comes with the answer. Throws the errors of `contracts/http-errors.ts` and no
 * others of its own.
 *
 * @param named what the model is called at the provider.
 * @param inputTokens bound of the input, charged where the answer does not say what it used.
 */
export async function askModel(
  io: Pick<ActIo, 'fetch' | 'baseUrl' | 'signal'>,
  named: string,
  question: Question,
  inputTokens: number,
): Promise<StoredModelStep> {
  const { system, messages, tools, maxOutputTokens } = question;
  const provider = createOpenAICompatible({
    name: 'tenant',
    baseURL: io.baseUrl?.href.replace(/\/$/, '') ?? '',
    // The grant adds the credential at the moment of sending; the SDK never sees it.
    fetch: io.fetch,
  });
  const answer = await generateText({
    model: provider.chatModel(named),
    system,
    messages,
    tools: toolSetOf(tools),
    maxOutputTokens,
    maxRetries: 0,
    abortSignal: io.signal,
  }).catch((error: unknown) => {
    throw ours(error);
  });
  if (answer.toolCalls.length > MAX_CALLS_ASKED)
    throw new ResultTooLarge(
      MODEL_ACTION,
      `${answer.toolCalls.length} tool calls at once and may ask for ${MAX_CALLS_ASKED}`,
    );
  const empty = answer.text === '' && answer.toolCalls.length === 0;
  return {
    kind: 'model',
    text: answer.text,
    toolCalls: answer.toolCalls.map(({ toolCallId, toolName, input }) => ({
      id: toolCallId,
      name: toolName,
      args: storable(input),
    })),
    ...usageOf(toldBy(answer.usage), { inputTokens, outputTokens: maxOutputTokens }, empty),
  };
}

/** The SDK's counts, with the provider's own sum in the place of the SDK's. */
function toldBy({ inputTokens, outputTokens, raw }: LanguageModelUsage): ToldUsage {
  const total = raw?.['total_tokens'];
  return { inputTokens, outputTokens, totalTokens: typeof total === 'number' ? total : undefined };
}

/** Tools without `execute`: a model asks, the gateway acts. */
const toolSetOf = (tools: readonly ShownTool[]): ToolSet =>
  Object.fromEntries(
    tools.map(({ name, description, schema }) => [
      name,
      tool({ description, inputSchema: jsonSchema(schema) }),
    ]),
  );

/**
 * The arguments as they can be stored. What has no JSON form, is nested too deeply or has too many parts becomes `null`, which is in no
 * schema: the call is refused by its form, and the model is told.
 */
const storable = (args: unknown): unknown =>
  overgrown(args) !== undefined || holdsNoNumber(args) ? null : (args ?? null);

/** The SDK wraps what `fetch` threw, and reports a status as its own error: back to the four ways a request fails. */
function ours(error: unknown): unknown {
  const own = ownCause(error);
  if (own) return own;
  if (!APICallError.isInstance(error)) return error;
  const { statusCode: status, responseHeaders: headers } = error;
  if (status === undefined) return new HttpUnavailable('the model provider gave no usable answer');
  if (status === 429)
    return new HttpNotSent(
      'the model provider answered 429; nothing was charged',
      retryAfterMs(headers?.['retry-after']),
    );
  // A time-out of theirs (408) is trouble that passes, as a 5xx is, and as a success is that is no completion: the page of a gateway before them.
  if (status >= 500 || status === 408 || status < 400)
    return new HttpUnavailable(
      status < 400
        ? `the model provider answered ${status} and no completion`
        : `the model provider answered ${status}`,
      retryAfterMs(headers?.['retry-after']),
    );
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
