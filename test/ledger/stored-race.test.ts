import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import type { StoredPayload } from '../../contracts/calls';
import type { RunId } from '../../contracts/ids';
import type { AdmitRequest } from '../../contracts/ledger';
import { LedgerWorld, refusal, type LedgerTenant } from './harness';
import { recount } from './recount';

/** Racers who store results at the limit of storage, on leases that run out under them, and settle late and again. */

const CAP = 4_000;
const LEASE_MS = 40;
/** A payload without its text. */
const LEAST = Buffer.byteLength(JSON.stringify(payloadOf(0)));

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(8);
});
afterAll(() => world.close());

function payloadOf(characters: number): StoredPayload {
  return { kind: 'tool', outcome: 'done', action: 'a', result: 'x'.repeat(characters) };
}

/** One call: what it may store and does, how long that takes, and how it ends. */
const Call = fc.record({
  slack: fc.nat(300),
  characters: fc.nat(500),
  callClass: fc.constantFrom('read' as const, 'write' as const),
  waitMs: fc.constantFrom(0, 0, 5, 60),
  // Some never come back: their lease runs out, and somebody else, or nobody, takes them over.
  ends: fc.constantFrom(
    'succeeded' as const,
    'succeeded' as const,
    'failed' as const,
    'open' as const,
    'never' as const,
  ),
  settles: fc.constantFrom(1, 1, 2),
});
type Call = typeof Call extends fc.Arbitrary<infer T> ? T : never;

interface Tally {
  admitted: number;
  full: number;
  late: number;
  takenOver: number;
}

async function play(
  tenant: LedgerTenant,
  runId: RunId,
  path: string,
  call: Call,
  tally: Tally,
): Promise<void> {
  const storedBytes = LEAST + call.characters + call.slack;
  const asked = (): AdmitRequest =>
    tenant.admission(runId, path, {
      ...{ callClass: call.callClass, leaseMs: LEASE_MS, token: randomUUID() },
      ...(call.callClass === 'read' && { reversible: null }),
      reserve: { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0, storedBytes },
    });
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const request = asked();
    const answer = await tenant.store.admit(request);
    if (answer.answer === 'refused') {
      expect(answer.refusal.rule).toMatch(/^(storage_bytes|retries_per_minute)$/);
      tally.full += 1;
      return;
    }
    if (answer.answer === 'in_flight') {
      await delay(LEASE_MS);
      continue;
    }
    if (answer.answer !== 'admitted' && answer.answer !== 'recover') return;
    tally.admitted += 1;
    if (answer.answer === 'recover') tally.takenOver += 1;
    await delay(call.waitMs);
    if (call.ends === 'never') continue;
    for (let turn = 0; turn < call.settles; turn += 1) {
      const settled = await tenant.store.settle(
        tenant.settlement(request, {
          result: call.ends,
          refusal: call.ends === 'succeeded' ? null : refusal({ kind: 'failed' }),
          payload: payloadOf(call.characters),
        }),
      );
      if (settled.answer === 'late') tally.late += 1;
    }
    if (call.ends !== 'open') return;
  }
}

test('Q2 racers who store at the limit never pass it, and in the end the count is what is there and nothing is reserved', async () => {
  const tally: Tally = { admitted: 0, full: 0, late: 0, takenOver: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(Call, { minLength: 2, maxLength: 6 }), { minLength: 3, maxLength: 6 }),
      async (racers) => {
        const tenant = await world.tenant({ more: { storageBytes: CAP } });
        const runId = await tenant.run();
        let racing = true;
        const reaping = (async () => {
          while (racing) {
            await world.platform.reapCalls(100);
            const { counted, found } = await tenant.bytes();
            expect(counted).toEqual(found);
            expect(counted.stored + counted.reserved).toBeLessThanOrEqual(CAP);
            await delay(10);
          }
        })();
        await Promise.all(
          racers.map(async (calls, racer) => {
            // Every other call is one that its neighbour makes, too: two attempts of one key, which bring the same and may store the same.
            for (const [index, call] of calls.entries()) {
              const alone = index % 2 === 0;
              const { slack, characters } = (alone ? undefined : racers[racer & ~1]?.[index]) ?? call;
              const path = `${index}.${alone ? racer : racer >> 1}`;
              await play(tenant, runId, path, { ...call, slack, characters }, tally);
            }
          }),
        ).finally(() => (racing = false));
        await reaping;
        await tenant.store.leaveRun({
          ...{ runId, temporalRunId: `${runId}/1`, stopReason: 'failed', outputRef: null },
        });
        await delay(2 * LEASE_MS);
        await world.platform.reapCalls(100);
        const { counted, found } = await tenant.bytes();
        expect(counted).toEqual(found);
        expect(counted.reserved).toBe(0);
        const { stored, violations } = recount(await tenant.journal());
        expect({ stored, violations }).toEqual({
          stored: { bytes: found.stored, reserved: 0 },
          violations: [],
        });
      },
    ),
    { numRuns: 20, endOnFailure: true },
  );
  expect(tally).toEqual({
    admitted: expect.any(Number),
    full: expect.any(Number),
    late: expect.any(Number),
    takenOver: expect.any(Number),
  });
  for (const seen of Object.values(tally)) expect(seen).toBeGreaterThan(0);
}, 180_000);
