import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { plays, startModel, type Move, type TestModel } from '../support/model';
import { startForbidden, type Forbidden } from '../support/forbidden';
import { close, listen } from '../support/outside';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';

let stack: TestStack;
let model: TestModel;
let forbidden: Forbidden;
let server: Server;
let url: string;
let arrived: { asked: string; bearer: string | undefined }[];
/** Where records redirect to. */
let leads: Record<string, string>;

beforeAll(async () => {
  server = createServer((request: IncomingMessage, response: ServerResponse) => {
    arrived.push({ asked: `${request.method} ${request.url}`, bearer: request.headers.authorization });
    const location = leads[request.url ?? ''];
    if (location !== undefined) response.writeHead(request.method === 'GET' ? 302 : 303, { location }).end();
    else
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ id: 'r1', account: 'acct', text: 'moved' }));
  });
  [stack, model, forbidden, url] = await Promise.all([
    createTestStack(),
    startModel(plays()),
    startForbidden(),
    listen(server),
  ]);
  const elsewhere = JSON.stringify([`http://127.0.0.1:${forbidden.port}`, 'https://named.invalid']);
  await readyTenant(stack, {
    name: 'acme',
    keeper: `${url}/v1`,
    models: model.url,
    rules: `  - { id: own, effect: allow, actions: ["*"], destinations: ["127.0.0.1"] }
  - { id: elsewhere, effect: allow, actions: [record.read], destinations: ${elsewhere} }`,
  });
});
beforeEach(() => {
  [arrived, leads] = [[], {}];
});
afterAll(async () => {
  await stack.close();
  await Promise.all([close(server), model.close(), forbidden.close()]);
});

async function play(...moves: Move[]) {
  model.script = plays(...moves);
  const run = await stack.run('acme', 'go');
  const result = await run.result({ timeoutMs: 45_000 });
  return { result, refusals: (await stack.refusals('acme', run.runId)).map(({ refusal }) => refusal) };
}
const read: Move = { call: [['record.read', { recordId: 'r1' }]] };

test('T7 a read follows its connection’s redirects below its own path, and policy is asked of every other place', async () => {
  leads = { '/v1/records/r1': '/v1/moved/r1' };
  const { result, refusals } = await play(read);
  expect([result.stopReason, refusals]).toEqual(['completed', []]);
  expect(arrived.map(({ asked }) => asked)).toEqual(['GET /v1/records/r1', 'GET /v1/moved/r1']);
  expect(new Set(arrived.map(({ bearer }) => bearer)).size).toBe(1);

  const refusedAt: [string, RegExp][] = [
    ['/admin', /out of its own path/],
    ['https://unnamed.invalid/', /policy does not let it go/],
    [`https://127.0.0.1:${forbidden.port}/`, /policy does not let it go/],
    // Named by a rule, and still no public address; what the connection was granted is not handed on.
    [`http://127.0.0.1:${forbidden.port}/`, /not a public address/],
  ];
  for (const [location, message] of refusedAt) {
    leads = { '/v1/records/r1': location };
    const ended = await play(read);
    expect([location, ended.refusals]).toMatchObject([
      location,
      [{ kind: 'denied', origin: 'policy', rule: 'egress', message: expect.stringMatching(message) }],
    ]);
  }
  expect(arrived.filter(({ asked }) => asked.includes('admin'))).toEqual([]);
  expect(forbidden.connections).toBe(0);
});

test('T7 a write is never sent on', async () => {
  leads = { '/v1/notes': '/v1/moved' };
  const { result } = await play({ call: [['note.write', { recordId: 'r1', text: 'once' }]] });
  expect(result.stopReason).not.toBe('completed');
  expect(arrived.map(({ asked }) => asked).filter((asked) => asked.includes('moved'))).toEqual([]);
});
