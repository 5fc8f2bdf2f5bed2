import { appendFileSync } from 'node:fs';
import path from 'node:path';
import { runSystem } from '../systems/process';
import { parsed, Problem, type Asked, type Reply } from '../systems/server';
import { think } from './brain';
import { ChatRequest, conversationOf } from './conversation';

const CHARACTERS_PER_TOKEN = 4;
const tokensIn = (value: unknown): number => Math.ceil(JSON.stringify(value).length / CHARACTERS_PER_TOKEN);

/**
 * A scripted model behind OpenAI's `/v1/chat/completions`, over real HTTP with a key per tenant. It has no memory:
 * each answer comes from the conversation in the request alone.
 */
function complete(asked: Asked): Reply {
  const request = parsed(ChatRequest, asked.body);
  if (request.stream) throw new Problem(400, 'this model does not stream; ask without `stream`');
  witness(asked, request);
  const conversation = conversationOf(request);
  const step = request.messages.filter((message) => message.role === 'assistant').length;
  const thought = think(conversation);
  const message =
    'text' in thought
      ? { role: 'assistant', content: thought.text }
      : {
          role: 'assistant',
          content: null,
          tool_calls: thought.calls.map((call, index) => ({
            id: `call_${step}_${index}`,
            type: 'function',
            function: { name: conversation.toolName(call.name), arguments: JSON.stringify(call.args) },
          })),
        };
  const promptTokens = tokensIn(request.messages);
  const completionTokens = tokensIn(message);
  return {
    status: 200,
    body: {
      id: `chatcmpl-${step}`,
      object: 'chat.completion',
      created: Math.floor(Date.now() / 1_000),
      model: request.model,
      choices: [{ index: 0, message, finish_reason: 'text' in thought ? 'stop' : 'tool_calls' }],
      usage: {
        prompt_tokens: promptTokens,
        completion_tokens: completionTokens,
        total_tokens: promptTokens + completionTokens,
      },
    },
  };
}

/** Keeps what was new in each prompt, so that anyone can search there for what should never reach a model. */
function witness(asked: Asked, request: ChatRequest): void {
  const last = request.messages.findLastIndex((message) => message.role === 'assistant');
  const row = {
    at: new Date().toISOString(),
    account: asked.token.account,
    token: asked.token.name,
    messages: request.messages.slice(last + 1),
  };
  appendFileSync(path.join(asked.stateDir, 'prompts.jsonl'), `${JSON.stringify(row)}\n`);
}

runSystem({
  name: 'models',
  keysHonouredForMs: null,
  routes: [
    { method: 'POST', path: '/v1/chat/completions', needs: ['generate'], handle: complete },
    {
      method: 'GET',
      path: '/v1/models',
      needs: ['generate'],
      handle: () => ({
        status: 200,
        body: { object: 'list', data: [{ id: 'scripted-support-1', object: 'model' }] },
      }),
    },
  ],
});
