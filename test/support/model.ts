import { createServer } from 'node:http';
import { close, listen } from './outside';

/** A message as it reaches the provider. */
export interface SeenMessage {
  readonly role: string;
  readonly content: string | null;
  readonly tool_calls?: readonly { function: { name: string; arguments: string } }[];
}

/** What a scripted model does next: calls tools, or says its last word. */
export type Move =
  { readonly call: readonly (readonly [tool: string, args: unknown])[] } | { readonly say: string };

/** Decides from the input and the number of moves made so far; also sees what it was told. */
export type Script = (seen: {
  input: string;
  moves: number;
  messages: readonly SeenMessage[];
  model: string;
}) => Move | Promise<Move>;

/** How a provider can fail: a status, a connection that is cut, or one that never answers. */
export type ModelFault = { readonly status: number; readonly retryAfter?: string } | 'reset' | 'hang';

export interface TestModel {
  readonly url: string;
  script: Script;
  /** Decides how a request fails, by the model it names; `undefined` lets the script answer. */
  fault: ((model: string) => ModelFault | undefined) | undefined;
  /** What answers say of their usage; `null` for nothing. */
  usage: Readonly<Record<string, unknown>> | null;
  /** Milliseconds before an answer. */
  delayMs: number;
  /** Requests under way at this moment, by the bearer. */
  readonly underWay: ReadonlyMap<string, number>;
  /** HTTP status to answer with instead, while set. */
  failWith: number | undefined;
  readonly requests: { at: number; bearer: string; model: string; messages: readonly SeenMessage[] }[];
  close(): Promise<void>;
}

/** An OpenAI-compatible model provider on loopback whose answers the test decides. */
export async function startModel(script: Script): Promise<TestModel> {
  const state: Pick<TestModel, 'script' | 'failWith' | 'fault' | 'usage' | 'delayMs'> = {
    script,
    failWith: undefined,
    fault: undefined,
    usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
    delayMs: 0,
  };
  const underWay = new Map<string, number>();
  const requests: TestModel['requests'] = [];
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const asked = JSON.parse(Buffer.concat(chunks).toString('utf8')) as {
        model: string;
        messages: SeenMessage[];
      };
      const bearer = request.headers.authorization ?? '';
      underWay.set(bearer, (underWay.get(bearer) ?? 0) + 1);
      response.on('close', () => underWay.set(bearer, (underWay.get(bearer) ?? 1) - 1));
      requests.push({
        at: Date.now(),
        bearer,
        model: asked.model,
        messages: asked.messages,
      });
      if (state.failWith)
        return response
          .writeHead(state.failWith, { 'content-type': 'application/json' })
          .end('{"error":{"message":"as told"}}');
      const fault = state.fault?.(asked.model);
      if (fault === 'hang') return;
      if (fault === 'reset') return request.socket.destroy();
      if (fault) {
        const after = fault.retryAfter === undefined ? {} : { 'retry-after': fault.retryAfter };
        return response
          .writeHead(fault.status, { 'content-type': 'application/json', ...after })
          .end('{"error":{"message":"as told"}}');
      }
      if (state.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, state.delayMs));
      const moves = asked.messages.filter(({ role }) => role === 'assistant').length;
      const input = asked.messages.find(({ role }) => role === 'user')?.content ?? '';
      const move = await state.script({ input, moves, messages: asked.messages, model: asked.model });
      const message =
        'say' in move
          ? { role: 'assistant', content: move.say }
          : {
              role: 'assistant',
              content: null,
              tool_calls: move.call.map(([name, args], index) => ({
                id: `call_${moves}_${index}`,
                type: 'function',
                function: {
                  name: name.replaceAll('.', '__'),
                  arguments: typeof args === 'string' ? args : JSON.stringify(args),
                },
              })),
            };
      const body = {
        id: 'test',
        object: 'chat.completion',
        created: 1,
        model: asked.model,
        choices: [{ index: 0, message, finish_reason: 'say' in move ? 'stop' : 'tool_calls' }],
        ...(state.usage && { usage: state.usage }),
      };
      return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    })().catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  const url = await listen(server);
  return Object.assign(state, { url, requests, underWay, close: () => close(server) });
}

/** A script that plays fixed moves and then says a last word. */
export const plays =
  (...moves: Move[]): Script =>
  ({ moves: made }) =>
    moves[made] ?? { say: 'done' };
