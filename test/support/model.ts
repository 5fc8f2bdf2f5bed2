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

export interface TestModel {
  readonly url: string;
  script: Script;
  /** HTTP status to answer with instead, while set. */
  failWith: number | undefined;
  readonly requests: { bearer: string; model: string; messages: readonly SeenMessage[] }[];
  close(): Promise<void>;
}

/** An OpenAI-compatible model provider on loopback whose answers the test decides. */
export async function startModel(script: Script): Promise<TestModel> {
  const state: { script: Script; failWith: number | undefined } = { script, failWith: undefined };
  const requests: TestModel['requests'] = [];
  const server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const asked = JSON.parse(Buffer.concat(chunks).toString('utf8')) as {
        model: string;
        messages: SeenMessage[];
      };
      requests.push({
        bearer: request.headers.authorization ?? '',
        model: asked.model,
        messages: asked.messages,
      });
      if (state.failWith)
        return response
          .writeHead(state.failWith, { 'content-type': 'application/json' })
          .end('{"error":{"message":"as told"}}');
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
        usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
      };
      return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    })().catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  const url = await listen(server);
  return Object.assign(state, { url, requests, close: () => close(server) });
}

/** A script that plays fixed moves and then says a last word. */
export const plays =
  (...moves: Move[]): Script =>
  ({ moves: made }) =>
    moves[made] ?? { say: 'done' };
