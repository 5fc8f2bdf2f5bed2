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
import { HttpForbidden, HttpNotSent, HttpRefused, HttpUnavailable } from '../contracts/http-errors';
import { retryAfterMs } from '../contracts/retry-after';
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
  // A time-out of theirs (408) is trouble that passes, as a 5xx is.
  if (status >= 500 || status === 408)
    return new HttpUnavailable(
      `the model provider answered ${status}`,
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
