import { MockActivityEnvironment } from '@temporalio/testing';
import { z } from 'zod';
import { readFailure, requireStorable, ResultTooLarge } from '../../activities/acting';
import { runInZone } from '../../activities/call-context';
import type { ActIo, GovernedCall } from '../../activities/governed-call';
import { storedBound } from '../../activities/model-bounds';
import { forwardCall } from '../../activities/tool-call';
import { MAX_RESULT_BYTES, MAX_STORED_BYTES, STORED_BESIDE_BYTES } from '../../contracts/calls';
import { digestOf } from '../../contracts/digest';
import { Environment, TenantId } from '../../contracts/ids';
import { mintScope } from '../../contracts/scope-mint';
import { defineAction } from '../../tools/define-action';

/** The zone that the interceptor puts an activity into; the actions here look at nothing of it. */
const zone = {
  zone: 'run',
  scope: mintScope(TenantId.parse('acme'), Environment.parse('test'), 'token'),
  signed: { envelope: {}, proof: {} } as never,
} as const;
/** As a worker runs an activity of a workflow. */
const asActivity = <T>(body: () => Promise<T>): Promise<T> =>
  new MockActivityEnvironment({ workflowExecution: { workflowId: 'w', runId: 'r' } }).run(() =>
    runInZone(zone, body),
  );

const action = (answers: string, more: { maxResultBytes?: number; effect?: 'read' | 'write' } = {}) =>
  defineAction({
    name: 'text.make',
    description: 'Makes a text.',
    effect: 'read',
    args: z.object({}),
    result: z.string(),
    system: null,
    timeout: '1s',
    run: () => Promise.resolve(answers),
    ...more,
  });

const callOf = (made: ReturnType<typeof action>): GovernedCall =>
  forwardCall({
    position: { step: 0, ordinal: 1 },
    seq: 1,
    asked: { id: 'a', name: made.name, args: {} },
    action: made,
    lost: false,
    agentClass: 'test',
  });
const act = (made: ReturnType<typeof action>) => asActivity(() => callOf(made).act({} as ActIo));

test('Q2 a result of as many bytes as its action declares is kept, one byte more is thrown away whole', async () => {
  // Quotes count, and a character for the bytes that it has.
  await expect(act(action('xüx', { maxResultBytes: 6 }))).resolves.toMatchObject({
    payload: { result: 'xüx' },
  });
  await expect(act(action('xüxx', { maxResultBytes: 6 }))).rejects.toThrow(
    'text.make answered 7 bytes and may answer 6; all of it was discarded',
  );
  await expect(act(action('x'.repeat(MAX_RESULT_BYTES - 1)))).rejects.toThrow(ResultTooLarge);
});

test('Q2 a call reserves what its result may have and what stands beside it, which is as much as is ever stored', async () => {
  expect(callOf(action('')).reserve.storedBytes).toBe(MAX_STORED_BYTES);
  const small = action('x'.repeat(98), { maxResultBytes: 100 });
  const reserved = callOf(small).reserve.storedBytes ?? 0;
  expect(reserved).toBe(100 + STORED_BESIDE_BYTES);
  const { payload } = await act(small);
  expect(Buffer.byteLength(JSON.stringify(payload))).toBeLessThanOrEqual(reserved);
  expect([storedBound(500), storedBound(100_000)]).toEqual([
    500 * 64 + STORED_BESIDE_BYTES,
    MAX_STORED_BYTES,
  ]);
});

test.each([1, 1.5, -1, MAX_RESULT_BYTES + 1, Number.NaN])(
  'U1 maxResultBytes of %d is refused',
  (maxResultBytes) => {
    expect(() => action('', { maxResultBytes })).toThrow(
      /text.make: maxResultBytes is a whole number from 2/,
    );
  },
);

test('Q2 T3 one that is too large fails a read for good; of a write that may have been applied nobody can say', () => {
  const clean = { mayHaveApplied: false, before: false, aborted: false, timedOut: false };
  const error = new ResultTooLarge('text.make', '7 bytes and may answer 6');
  expect(readFailure(error, callOf(action('')), clean)).toMatchObject({
    result: 'failed',
    refusal: { kind: 'failed', origin: 'provider', rule: 'result_size', message: error.message },
  });
  const write = { ...callOf(action('', { effect: 'write' })), keyValidMs: 1_000 };
  const looked = { ...write, reconcile: () => Promise.resolve('unknown' as const) };
  for (const call of [write, looked])
    expect(readFailure(error, call, { ...clean, mayHaveApplied: true })).toMatchObject({
      result: 'unknown',
      refusal: { kind: 'outcome_unknown' },
    });
});

test('Q2 what has no JSON takes nothing', () => {
  expect(() => requireStorable('text.make', undefined, 0)).not.toThrow();
});

describe('what costs a host more to look at than it has bytes', () => {
  const of = (result: z.ZodType, answers: unknown) =>
    act(
      defineAction({
        name: 'text.make',
        description: 'Makes a text.',
        effect: 'read',
        args: z.object({}),
        result,
        system: null,
        timeout: '1s',
        run: () => Promise.resolve(answers),
      }),
    );
  const nested = (levels: number): unknown =>
    Array.from({ length: levels }).reduce<unknown>((inside) => [inside], 'x');

  test('N6 T7 an answer of very many small parts is thrown away before its schema is asked of each', async () => {
    const list = z.object({ list: z.array(z.object({ id: z.string(), text: z.string() })) });
    await expect(of(list, { list: Array.from({ length: 20_000 }, () => ({})) })).rejects.toThrow(
      'text.make answered more than 20000 values; all of it was discarded',
    );
    const fitting = { list: Array.from({ length: 6_000 }, () => ({ id: 'a', text: 'b' })) };
    await expect(of(list, fitting)).resolves.toMatchObject({ payload: { result: fitting } });
  });

  test('T3 T7 an answer nested too deeply for a digest is thrown away while that can be told, and not after its effect', async () => {
    await expect(of(z.unknown(), nested(3_000))).rejects.toThrow('nested deeper than 500 levels');
    const { payload } = await of(z.unknown(), nested(490));
    expect(digestOf(payload)).toMatch(/^[0-9a-f]{64}$/);
    const round: unknown[] = [];
    round.push(round);
    await expect(of(z.unknown(), round)).rejects.toThrow('nested deeper than 500 levels');
  });

  test('T3 a number that JSON cannot hold is out of every schema', async () => {
    await expect(of(z.unknown(), { n: [Infinity] })).rejects.toThrow('out of its result schema');
  });
});
