import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type { RunId } from '../../contracts/ids';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';
import { LEASE_MS, LedgerWorld, refusal, type LedgerTenant } from './harness';
import { BreakerModel, TERMS, type ModelAttempt, type Verdict } from './breaker-model';
import { recount } from './recount';

/** Set higher for a long run. */
const SEQUENCES = Number(process.env['BULKHEAD_MODEL_RUNS'] ?? 40);
const seed = process.env['BULKHEAD_MODEL_SEED'];
const START = Date.UTC(2025, 2, 10, 12);
const SYSTEMS = ['helpdesk', 'payments'];
/** A call has eight attempts; the ninth is a dead letter, and no matter of a breaker. */
const ATTEMPTS = 8;

type Command =
  | { do: 'ask'; system: number }
  | { do: 'ask again'; attempt: number }
  | { do: 'settle'; attempt: number; verdict: Verdict }
  | { do: 'tell'; attempt: number; verdict: Verdict }
  | { do: 'fail often'; system: number; times: number }
  | { do: 'tick'; ms: number };

const system = fc.constantFrom(0, 0, 0, 1);
const attempt = fc.integer({ min: 0, max: 6 });
const verdict = fc.constantFrom<Verdict>('well', 'ill', 'ill', 'ill', 'none');
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('ask' as const), system }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('ask again' as const), attempt }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('settle' as const), attempt, verdict }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tell' as const), attempt, verdict }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('fail often' as const),
      system,
      times: fc.integer({ min: 5, max: 10 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('tick' as const),
      ms: fc.constantFrom(
        1,
        700,
        TERMS.first - 1,
        TERMS.first,
        LEASE_MS,
        20_000,
        TERMS.within,
        TERMS.longest,
        -3_000,
      ),
    }),
  },
);

const ENDS: Record<Verdict, Partial<SettleRequest>> = {
  well: { result: 'succeeded' },
  ill: {
    result: 'open',
    refusal: refusal({ kind: 'provider_degraded', origin: 'provider', rule: 'unavailable' }),
  },
  none: { result: 'open', refusal: refusal({ kind: 'failed', origin: 'platform', rule: 'aborted' }) },
};

/** The ledger and the model side by side, on a tenant of its own. */
class Trial {
  readonly model = new BreakerModel();
  readonly attempts: (ModelAttempt & { readonly request: AdmitRequest })[] = [];
  #clock = START;
  #last = START;
  #paths = 0;
  constructor(
    readonly tenant: LedgerTenant,
    readonly runId: RunId,
  ) {}

  /** The ledger's clock never steps back behind a time at which it was asked: that is each time that this is read. */
  get #now(): number {
    return (this.#last = this.#unasked);
  }

  /** The time that it would be, were the ledger asked now. */
  get #unasked(): number {
    return Math.max(this.#last, this.#clock);
  }

  async do(each: Command): Promise<void> {
    switch (each.do) {
      case 'tick':
        this.#clock += each.ms;
        await this.tenant.world.setClock(new Date(this.#clock));
        return;
      case 'ask':
        await this.#ask(SYSTEMS[each.system] ?? '', `${(this.#paths += 1)}.1`, 1);
        return;
      case 'ask again': {
        const known = this.#attempt(each.attempt);
        if (!known || known.attemptNo >= ATTEMPTS) return;
        const lost = known.state === 'claimed' && this.#unasked >= known.leaseUntil;
        if (!lost && known.state !== 'open') return;
        if (await this.#ask(known.system, known.path, known.attemptNo + 1)) known.state = 'replaced';
        return;
      }
      case 'settle':
      case 'tell': {
        const known = this.#attempt(each.attempt);
        if (!known) return;
        if (known.state === 'claimed') this.model.heard(known, each.verdict, this.#now);
        if (each.do === 'tell') {
          const { refusal: why } = ENDS[each.verdict];
          // A success is told by settling.
          if (each.verdict === 'well' && known.state === 'claimed') {
            await this.#settle(known, 'well');
            known.state = 'over';
          } else if (why) {
            const { runId, path, token } = known.request;
            await this.tenant.store.trouble({ runId, path, token, refusal: why });
          }
          return;
        }
        await this.#settle(known, each.verdict);
        if (known.state === 'claimed') known.state = each.verdict === 'well' ? 'over' : 'open';
        return;
      }
      case 'fail often':
        for (let time = 0; time < each.times; time += 1) {
          if (!(await this.#ask(SYSTEMS[each.system] ?? '', `${(this.#paths += 1)}.1`, 1))) return;
          await this.do({ do: 'settle', attempt: 0, verdict: 'ill' });
        }
    }
  }

  #attempt(back: number) {
    return this.attempts[this.attempts.length - 1 - back];
  }

  async #settle(known: { request: AdmitRequest }, how: Verdict): Promise<void> {
    await this.tenant.store.settle(this.tenant.settlement(known.request, ENDS[how]));
  }

  async #ask(system: string, path: string, attemptNo: number): Promise<boolean> {
    const now = this.#now;
    const request = this.tenant.admission(this.runId, path, {
      system,
      callClass: 'read',
      token: randomUUID(),
    });
    const expected = this.model.ask(system, request.token, now, LEASE_MS);
    const answer = await this.tenant.store.admit(request);
    if (expected.let === 'wait') {
      expect(answer).toMatchObject({
        answer: 'refused',
        refusal: {
          rule: 'breaker_open',
          retryAfterMs: expected.ms,
          value: TERMS.failures,
          used: expected.used,
        },
      });
      return false;
    }
    expect(answer).toMatchObject({ answer: 'admitted', attempt: attemptNo });
    const { token } = request;
    this.attempts.push({
      token,
      system,
      path,
      admittedAt: now,
      leaseUntil: now + LEASE_MS,
      attemptNo,
      state: 'claimed',
      request,
    });
    return true;
  }

  async check(): Promise<void> {
    const rows = await this.tenant.store.breakers();
    const shown = rows.map(({ system, state, failures, openings, openUntil }) => [
      system,
      { state, failures, openings, ...(state === 'open' && { openUntil: Date.parse(openUntil ?? '') }) },
    ]);
    expect(Object.fromEntries(shown)).toEqual(this.model.shown());
  }
}

let world: LedgerWorld;
beforeAll(async () => {
  world = await LedgerWorld.open();
});
afterAll(() => world.close());

test(`N5 breakers move as the model of them does, whatever is asked, told and lost (${SEQUENCES} sequences)`, async () => {
  let opened = 0;
  let probes = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 10, maxLength: 60 }), async (commands) => {
      await world.setClock(new Date(START));
      const tenant = await world.tenant();
      const trial = new Trial(tenant, await tenant.run());
      for (const each of commands) {
        await trial.do(each);
        await trial.check();
      }
      const journal = await tenant.journal();
      const kinds = journal.map(({ facts }) => (JSON.parse(facts) as { kind: string }).kind);
      opened += kinds.filter((kind) => kind === 'breaker_opened').length;
      probes += kinds.filter((kind) => kind === 'breaker_half_open').length;
      expect(recount(journal).violations).toEqual([]);
      expect(await tenant.verify()).toMatchObject({ intact: true });
    }),
    { numRuns: SEQUENCES, ...(seed === undefined ? {} : { seed: Number(seed) }) },
  );
  // The sequences have come where breakers are.
  expect(opened).toBeGreaterThan(SEQUENCES / 4);
  expect(probes).toBeGreaterThan(SEQUENCES / 8);
}, 300_000);
