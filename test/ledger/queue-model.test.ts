import fc from 'fast-check';
import { RunId } from '../../contracts/ids';
import { LedgerWorld, WIDE, type LedgerTenant } from './harness';

/**
 * The line for slots beside a small model of it: a list of runs, each with where it is. Whatever comes in whatever order,
 * both agree on who holds a slot, who stands in line, and on what each is told.
 */

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'] as const;
type Name = (typeof NAMES)[number];
type Op =
  | { readonly op: 'accept'; readonly run: Name; readonly priority: number }
  | { readonly op: 'enter' | 'park' | 'leave' | 'gone'; readonly run: Name }
  | { readonly op: 'ceiling'; readonly value: number }
  | { readonly op: 'kill' | 'release' | 'tend' };

const aRun = fc.constantFrom(...NAMES);
const anOp: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('accept' as const),
      run: aRun,
      priority: fc.integer({ min: 1, max: 5 }),
    }),
  },
  {
    weight: 9,
    arbitrary: fc.record({
      op: fc.constantFrom('enter' as const, 'enter', 'park', 'leave', 'gone'),
      run: aRun,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('ceiling' as const), value: fc.integer({ min: 0, max: 4 }) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom('kill' as const, 'release', 'tend') }) },
);

interface ModelRun {
  readonly name: Name;
  readonly priority: number;
  readonly arrival: number;
  readonly era: number;
  /** Its workflow has asked at least once; only then can it give up what it holds. */
  asked: boolean;
  place: 'slot' | 'line' | 'none' | 'closed';
}

class Model {
  readonly runs: ModelRun[] = [];
  killed = false;
  era = 0;
  constructor(public ceiling: number) {}

  find = (name: Name): ModelRun | undefined => this.runs.find((run) => run.name === name);
  at = (place: ModelRun['place']): ModelRun[] => this.runs.filter((run) => run.place === place);

  line(): ModelRun[] {
    return this.at('line')
      .filter((run) => run.era === this.era)
      .sort((a, b) => a.priority - b.priority || a.arrival - b.arrival);
  }

  handOver(): void {
    while (!this.killed && this.at('slot').length < this.ceiling) {
      const [next] = this.line();
      if (!next) return;
      next.place = 'slot';
    }
  }

  /** What the ledger should answer, in one word. */
  apply(op: Op): string {
    switch (op.op) {
      case 'accept':
        if (this.find(op.run)) return 'existing';
        if (this.killed) return 'refused';
        this.runs.push({
          ...{ name: op.run, priority: op.priority, arrival: this.runs.length },
          ...{ era: this.era, asked: false, place: 'line' },
        });
        this.handOver();
        return 'accepted';
      case 'enter': {
        const run = this.find(op.run);
        if (!run || run.place === 'closed' || this.killed || run.era < this.era) return 'refused';
        run.asked = true;
        if (run.place === 'none') run.place = 'line';
        this.handOver();
        return run.place === 'slot' ? 'entered' : `queued ${this.line().indexOf(run) + 1}`;
      }
      case 'park': {
        const run = this.find(op.run);
        if (run?.place === 'slot' && run.asked) run.place = 'none';
        this.handOver();
        return 'parked';
      }
      case 'leave':
      case 'gone': {
        const run = this.find(op.run);
        if (!run) return 'absent';
        run.place = 'closed';
        this.handOver();
        return 'left';
      }
      case 'ceiling':
        this.ceiling = op.value;
        this.handOver();
        return 'set';
      case 'kill':
        if (!this.killed) this.era += 1;
        this.killed = true;
        return 'killed';
      case 'release':
        this.killed = false;
        return 'released';
      case 'tend':
        return 'nothing';
    }
  }
}

async function real(tenant: LedgerTenant, op: Op): Promise<string> {
  const { store } = tenant;
  switch (op.op) {
    case 'accept':
      return (await store.acceptRun({ ...tenant.acceptance(RunId.parse(op.run)), priority: op.priority }))
        .kind;
    case 'enter': {
      const entry = await store.enterRun({
        ...{
          runId: RunId.parse(op.run),
          temporalRunId: `${op.run}/1`,
          previousTemporalRunId: null,
          generation: 0,
        },
      });
      return entry.kind === 'queued' ? `queued ${entry.position}` : entry.kind;
    }
    case 'park':
      await store.parkRun({
        runId: RunId.parse(op.run),
        temporalRunId: `${op.run}/1`,
        state: 'review_required',
      });
      return 'parked';
    case 'leave':
    case 'gone':
      return await store
        .leaveRun({
          runId: RunId.parse(op.run),
          // One that was terminated is closed by the sweep.
          temporalRunId: op.op === 'leave' ? `${op.run}/1` : null,
          stopReason: op.op === 'leave' ? 'completed' : 'terminated',
          outputRef: null,
        })
        .then(
          () => 'left',
          () => 'absent',
        );
    case 'ceiling':
      await tenant.setLimits({ ...WIDE, more: { concurrentRuns: op.value, bestPriority: 1 } });
      return 'set';
    case 'kill':
      await store.kill({ reason: 'x', actor: 'op' });
      return 'killed';
    case 'release':
      await store.release({ reason: 'x', actor: 'op' });
      return 'released';
    case 'tend':
      return (await world.platform.tendLines()).some((id) => id.includes(tenant.tenantId))
        ? 'handed'
        : 'nothing';
  }
}

/** Where everybody is, as rows and as counters say. */
async function places(tenant: LedgerTenant) {
  const { rows } = await world.admin.query<{ run_id: Name; slot: boolean; line: boolean; state: string }>(
    `select run_id, slot_at is not null as slot, queued_at is not null as line, state from bulkhead.runs where tenant_id = $1`,
    [tenant.tenantId],
  );
  const { rows: counts } = await world.admin.query<{ slots: number; queued: number }>(
    'select slots, queued from bulkhead.ledgers where tenant_id = $1',
    [tenant.tenantId],
  );
  const named = (pick: (row: (typeof rows)[number]) => boolean): string[] =>
    rows
      .filter(pick)
      .map((row) => row.run_id)
      .sort();
  return { slots: named((row) => row.slot), line: named((row) => row.line), counts: counts[0] };
}

/** The same from the journal alone. */
async function journaled(tenant: LedgerTenant): Promise<{ slots: number; queued: number }> {
  const now = { slots: 0, queued: 0 };
  const places = new Map<string, 'slot' | 'queue' | null>();
  for (const { facts } of await tenant.journal()) {
    const { kind, run, place } = JSON.parse(facts) as {
      kind: string;
      run: string;
      place?: 'slot' | 'queue' | null;
    };
    expect(kind).not.toBe('recounted');
    if (kind === 'accepted') places.set(run, place ?? null);
    if (kind === 'slot_given') places.set(run, 'slot');
    if (kind === 'came_back') places.set(run, 'queue');
    if (kind === 'parked') places.set(run, null);
    if (kind === 'left') {
      expect([run, place ?? null]).toEqual([run, places.get(run) ?? null]);
      places.set(run, null);
    }
  }
  for (const place of places.values()) {
    if (place === 'slot') now.slots += 1;
    if (place === 'queue') now.queued += 1;
  }
  return now;
}

test('Q2 N1 the line agrees with a model of it, whatever is accepted, entered, parked, left, killed and limited', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 3 }),
      fc.array(anOp, { minLength: 5, maxLength: 30 }),
      async (ceiling, ops) => {
        const tenant = await world.tenant({ more: { concurrentRuns: ceiling, bestPriority: 1 } });
        const model = new Model(ceiling);
        for (const op of ops) {
          const expected = model.apply(op);
          const got = await real(tenant, op);
          expect([op, got]).toEqual([op, expected]);
          const now = await places(tenant);
          expect([op, now.slots]).toEqual([
            op,
            model
              .at('slot')
              .map(({ name }) => name)
              .sort(),
          ]);
          expect([op, now.line]).toEqual([
            op,
            model
              .at('line')
              .map(({ name }) => name)
              .sort(),
          ]);
          expect(now.counts).toEqual({ slots: now.slots.length, queued: now.line.length });
        }
        expect(await journaled(tenant)).toEqual((await places(tenant)).counts);
        expect(await tenant.verify()).toEqual({ intact: true });
      },
    ),
    { numRuns: 60 },
  );
}, 240_000);
