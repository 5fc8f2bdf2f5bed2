import fc from 'fast-check';
import { ENVIRONMENT, LedgerWorld, WIDE, type LedgerTenant } from './harness';

/** `limits.memoryBytes`: what a tenant's agents remember and search, counted against the documents that are there. */

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open(8);
});
afterAll(async () => {
  await world.close();
});

async function remembering(memoryBytes?: number): Promise<LedgerTenant> {
  const tenant = await world.tenant({ more: memoryBytes === undefined ? {} : { memoryBytes } });
  await world.admin.query('select bulkhead.make_knowledge_partition($1, $2)', [tenant.tenantId, ENVIRONMENT]);
  return tenant;
}

const put = (tenant: LedgerTenant, documentId: string, text: string, title = '') =>
  tenant.store.putKnowledge({ documentId, title, text });

/** What the ledger counts, beside what the superuser finds. */
async function memoryOf(tenant: LedgerTenant): Promise<{ counted: number; found: number }> {
  const { counted, found } = await tenant.bytes();
  return { counted: counted.memory, found: found.memory };
}

const layerOf = async (tenant: LedgerTenant) =>
  (await tenant.store.quotas())?.layers.find(({ of, limit }) => of === '' && limit === 'memoryBytes');

test('Q1 Q3 memory is counted in bytes of titles and texts, and refused to the byte', async () => {
  const tenant = await remembering(12);
  expect(await put(tenant, 'a', 'größe', 'ab')).toEqual({ kind: 'kept' });
  expect(await memoryOf(tenant)).toEqual({ counted: 9, found: 9 });
  expect(await put(tenant, 'b', '1234')).toEqual({
    kind: 'refused',
    refusal: {
      ...{ kind: 'throttled', origin: 'tenant_cap', rule: 'memory_bytes', rules: ['memory_bytes'] },
      ...{ value: 12, used: 9, policyVersion: 1 },
      message: 'this document needs 1 bytes more than the memory of this tenant has left',
    },
  });
  expect(await put(tenant, 'b', 'x'.repeat(13))).toMatchObject({
    refusal: { message: 'this document has 13 bytes, more than all that the memory of this tenant may have' },
  });
  expect(await put(tenant, 'b', '123')).toEqual({ kind: 'kept' });
  expect(await layerOf(tenant)).toMatchObject({ cap: 12, used: 12, reserved: null, free: 0, freesAt: null });
  expect(await memoryOf(tenant)).toEqual({ counted: 12, found: 12 });
});

test('Q1 Q3 a document put again counts the difference, one that was removed nothing, and removing again frees nothing', async () => {
  const tenant = await remembering(10);
  await put(tenant, 'a', '12345');
  await put(tenant, 'b', '12345');
  for (const text of ['12345', '54321', '123', '12345'])
    expect(await put(tenant, 'a', text)).toEqual({ kind: 'kept' });
  expect(await put(tenant, 'a', '123456')).toMatchObject({ kind: 'refused' });
  expect(await memoryOf(tenant)).toEqual({ counted: 10, found: 10 });
  expect(await tenant.store.removeKnowledge('b')).toBe(true);
  expect(await tenant.store.removeKnowledge('b')).toBe(false);
  expect(await tenant.store.removeKnowledge('never')).toBe(false);
  expect(await memoryOf(tenant)).toEqual({ counted: 5, found: 5 });
  expect(await put(tenant, 'a', '1234567890')).toEqual({ kind: 'kept' });
});

test('Q3 Q6 a limit below what is there keeps it all, lets in what takes no more, and a raise acts on the next', async () => {
  const tenant = await remembering();
  await put(tenant, 'a', '1234567890');
  await tenant.setLimits({ ...WIDE, more: { memoryBytes: 4 } });
  expect(await layerOf(tenant)).toMatchObject({ cap: 4, used: 10, free: 0 });
  expect(await put(tenant, 'b', '1')).toMatchObject({ kind: 'refused', refusal: { value: 4, used: 10 } });
  expect(await put(tenant, 'a', '123456789')).toEqual({ kind: 'kept' });
  await tenant.setLimits({ ...WIDE, more: { memoryBytes: 10 } });
  expect(await put(tenant, 'b', '1')).toEqual({ kind: 'kept' });
  expect(await memoryOf(tenant)).toEqual({ counted: 10, found: 10 });
});

test('Q4 a refusal of memory is in the journal, with its numbers', async () => {
  const tenant = await remembering(3);
  await put(tenant, 'a', 'abcd');
  const [last] = (await tenant.journal()).slice(-1);
  expect(JSON.parse(last?.facts ?? '{}')).toMatchObject({
    ...{ kind: 'refused', action: 'memory.put', origin: 'tenant_cap', rule: 'memory_bytes' },
    ...{ value: 3, used: 0, bytes: 4 },
  });
  expect(await tenant.verify()).toMatchObject({ intact: true });
});

const NAMES = ['a', 'b', 'c', 'd'];
const turn = fc.oneof(
  fc.record({ name: fc.constantFrom(...NAMES), bytes: fc.nat(40) }),
  fc.record({ name: fc.constantFrom(...NAMES), remove: fc.constant(true) }),
);

test('Q2 writers who race at the limit never pass it, and the count is what is there, to the byte', async () => {
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(turn, { maxLength: 12 }), { minLength: 2, maxLength: 6 }),
      async (racers) => {
        const tenant = await remembering(60);
        await Promise.all(
          racers.map(async (turns) => {
            for (const one of turns) {
              if ('remove' in one) await tenant.store.removeKnowledge(one.name);
              else if ((await put(tenant, one.name, 'x'.repeat(one.bytes))).kind === 'refused') refused += 1;
              expect((await memoryOf(tenant)).found).toBeLessThanOrEqual(60);
            }
          }),
        );
        const { counted, found } = await memoryOf(tenant);
        expect(counted).toBe(found);
        for (const name of NAMES) await tenant.store.removeKnowledge(name);
        expect(await memoryOf(tenant)).toEqual({ counted: 0, found: 0 });
      },
    ),
    { numRuns: 25 },
  );
  expect(refused).toBeGreaterThan(10);
}, 120_000);
