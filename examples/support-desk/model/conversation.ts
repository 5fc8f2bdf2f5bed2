import { z } from 'zod';

/** The part of OpenAI's chat completions request that this server reads. */
const Content = z.union([
  z.string(),
  z.array(z.looseObject({ type: z.string(), text: z.string().optional() })),
  z.null(),
]);

const ToolCall = z.looseObject({
  id: z.string(),
  function: z.looseObject({ name: z.string(), arguments: z.string() }),
});

export const ChatRequest = z.looseObject({
  model: z.string(),
  messages: z
    .array(
      z.looseObject({
        role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
        content: Content.optional(),
        tool_calls: z.array(ToolCall).optional(),
        tool_call_id: z.string().optional(),
      }),
    )
    .min(1),
  tools: z.array(z.looseObject({ function: z.looseObject({ name: z.string() }) })).optional(),
  max_tokens: z.int().positive().optional(),
  stream: z.boolean().optional(),
});
export type ChatRequest = z.infer<typeof ChatRequest>;

/** What a tool answered, as the runtime writes it for models. */
const ToolAnswer = z.union([
  z.looseObject({ outcome: z.literal('done'), result: z.unknown() }),
  z.looseObject({
    outcome: z.string(),
    refusal: z.looseObject({ rule: z.string(), message: z.string() }).optional(),
  }),
]);

/** A call of this conversation and what came of it. */
export interface PastCall {
  /** With dots, however it was sent. */
  readonly name: string;
  readonly args: unknown;
  readonly done: boolean;
  /** `undefined` unless done. */
  readonly result: unknown;
}

/** A conversation as the brain sees it: what it was told, and what it has tried. */
export interface Conversation {
  readonly input: string;
  readonly calls: readonly PastCall[];
  /** Writes an action's name as this request's tools have it. */
  toolName(action: string): string;
}

/** OpenAI's names have no dots; runtimes write `ticket__read`, and some servers take `ticket.read` as it is. */
const dotted = (name: string): string => name.replaceAll('__', '.');

/** Reads the request alone: nothing is remembered from one request to the next. */
export function conversationOf(request: ChatRequest): Conversation {
  const answers = new Map(
    request.messages.flatMap((message) =>
      message.role === 'tool' ? [[message.tool_call_id, answerOf(textOf(message.content))]] : [],
    ),
  );
  const calls = request.messages.flatMap((message) =>
    (message.tool_calls ?? []).map((call): PastCall => {
      const answer = answers.get(call.id);
      const done = answer?.outcome === 'done';
      return {
        name: dotted(call.function.name),
        args: jsonOf(call.function.arguments),
        done,
        result: done && 'result' in answer ? answer.result : undefined,
      };
    }),
  );
  const input = request.messages
    .flatMap((message) => (message.role === 'user' ? [textOf(message.content)] : []))
    .join('\n');
  const names = new Map(
    (request.tools ?? []).map((tool) => [dotted(tool.function.name), tool.function.name]),
  );
  return { input, calls, toolName: (action) => names.get(action) ?? action.replaceAll('.', '__') };
}

function textOf(content: z.infer<typeof Content> | undefined): string {
  if (typeof content === 'string') return content;
  return (content ?? []).map((part) => part.text ?? '').join('');
}

function answerOf(text: string): z.infer<typeof ToolAnswer> | undefined {
  return ToolAnswer.safeParse(jsonOf(text)).data;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    // A tool may answer plain text; it is then no outcome that the brain knows.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
