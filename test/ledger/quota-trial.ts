import { AgentId, RunId } from '../../contracts/ids';
import type { AdmitRequest, CallClass } from '../../contracts/ledger';
import { digest, type LedgerTenant, type LedgerWorld, refusal } from './harness';
import type { Bucket, Meter } from './quota-meter';
import { QuotaModel } from './quota-model';
import { isWrite, type Ask, type Charge, type Quota, type Result } from './quota-words';
import { NOTHING, recount, type Amounts } from './recount';
import { said } from './trial-words';

export const AGENTS = ['support_triage', 'refund_desk'];
export const KINDS: readonly { class: CallClass; action: string }[] = [
  { class: 'model', action: 'model.generate' },
  { class: 'read', action: 'ticket.read' },
  { class: 'write', action: 'ticket.update' },
  { class: 'high_risk_write', action: 'payment.refund' },
];

export type Command =
  | {
      do: 'ask';
      slot: number;
      kind: number;
      /** A position that was asked for before, counted from the newest. */
      again: number | null;
      reworded: boolean;
      denied: boolean;
      leaseMs: number;
      toolCalls: 0 | 1;
      steps: 0 | 1;
      microUsd: number;
      modelTokens: number;
    }
  | { do: 'ask again'; attempt: number }
  | { do: 'settle'; attempt: number; result: Result; charge: Charge }
  | { do: 'tick'; ms: number }
  | { do: 'reap' }
  | { do: 'quota'; quota: Quota }
  | { do: 'zone'; timeZone: string }
  | { do: 'start'; slot: number };

/** A call has eight attempts; the ninth is a dead letter, and no matter of a quota. */
const ATTEMPTS = 8;
const NEVER = 4_000_000_000_000;

/** One sequence against a tenant of its own, and the model beside it. */
export class Trial {
  readonly #runs: string[] = [];
  readonly #positions: { run: string; path: string }[] = [];
  readonly #attempts: { request: AdmitRequest; ask: Ask }[] = [];
  #started = 0;
  private constructor(
    readonly tenant: LedgerTenant,
    readonly model: QuotaModel,
  ) {}

  static async open(world: LedgerWorld, start: number, quota: Quota): Promise<Trial> {
    await world.setClock(new Date(start));
    const trial = new Trial(await world.tenant(inHarness(quota)), new QuotaModel(start, quota));
    await trial.do({ do: 'start', slot: 0 });
    await trial.do({ do: 'start', slot: 1 });
    return trial;
  }

  async do(command: Command): Promise<void> {
    const { model, tenant } = this;
    switch (command.do) {
      case 'ask':
        return this.#ask(command);
      case 'ask again': {
        const known = this.#attempts.at(-1 - command.attempt);
        if (known && this.#works(known.ask) && !this.#usedUp(known.ask))
          await this.#admit(known.request, known.ask);
        return;
      }
      case 'settle': {
        const known = this.#attempts.at(-1 - command.attempt);
        if (!known) return;
        const { ask, request } = known;
        const expected = model.settle(ask.run, ask.path, ask.token, command.result, command.charge);
        const { result, charge } = command;
        const { answer } = await tenant.store.settle(tenant.settlement(request, { result, charge }));
        expect(answer).toBe(expected);
        return;
      }
      case 'tick':
        model.now += command.ms;
        return tenant.world.setClock(new Date(model.now));
      case 'reap':
        model.reap();
        await tenant.world.platform.reapCalls(1_000);
        return;
      case 'quota':
        model.setQuota(command.quota);
        return tenant.setLimits(inHarness(command.quota));
      case 'zone':
        return this.do({ do: 'quota', quota: { ...model.quota, timeZone: command.timeZone } });
      case 'start':
        return this.#start(command.slot);
    }
  }

  /** Everybody goes home: no slot is left taken, and the tables, the model and the journal alone count the same. */
  async end(): Promise<void> {
    for (const slot of [0, 1]) await this.#leave(slot);
    await this.do({ do: 'tick', ms: Math.max(0, this.model.last - this.model.now) + 86_400_000 });
    await this.do({ do: 'reap' });
    const counted = await this.counters();
    expect(counted).toEqual(this.expected());
    const inflight = {
      own: this.model.own.inflight,
      named: [...this.model.named.values()].map((of) => of.inflight),
    };
    expect(inflight).toEqual({ own: 0, named: inflight.named.map(() => 0) });
    const bytes = await this.tenant.bytes();
    expect(bytes.counted).toEqual(bytes.found);
    expect(bytes.counted.reserved).toBe(0);
    await this.#checkJournal();
  }

  /** What the superuser finds in the tables: of each meter, by day; buckets; calls in flight; runs. */
  async counters(): Promise<unknown> {
    const { rows } = await this.tenant.world.admin.query<{ meters: Found[] | null; runs: object | null }>(
      `with metered as (
         select '' as name, meter from bulkhead.ledgers where tenant_id = $1
         union all select name, meter from bulkhead.meters where tenant_id = $1)
       select (select json_agg(json_build_object('name', name, 'inflight', (meter).inflight, 'day', (meter).day,
             'used', bulkhead.amounts_json((meter).used),
             'closed', (select coalesce(json_object_agg(d.day, bulkhead.amounts_json(d.used)), '{}') from bulkhead.closed_days d
               where d.tenant_id = $1 and d.name = m.name),
             'buckets', json_build_array(((meter).calls).level, extract(epoch from ((meter).calls).at) * 1000,
               ((meter).model_tokens).level, extract(epoch from ((meter).model_tokens).at) * 1000))) from metered m) as meters,
         (select json_object_agg(run_id, json_build_object('refusals', refusals, 'toolCalls', tool_calls, 'steps', steps,
           'activeMs', active_ms, 'microUsd', spent_micro_usd, 'modelTokens', model_tokens)) from bulkhead.runs where tenant_id = $1) as runs`,
      [this.tenant.tenantId],
    );
    const meters = (rows[0]?.meters ?? []).map(({ name, inflight, day, used, closed, buckets }) => {
      if (closed[day]) throw new Error(`day ${day} of '${name}' is open and closed at once`);
      const [calls = 0, callsAt = 0, tokens = 0, tokensAt = 0] = buckets.map(Number);
      const held = this.#held(name, { level: calls, at: callsAt }, { level: tokens, at: tokensAt });
      return [name, { inflight, days: worn({ ...closed, [day]: used }), held }];
    });
    return { meters: Object.fromEntries(meters), runs: rows[0]?.runs ?? {} };
  }

  /** The same of the model. */
  expected(): unknown {
    const found = (name: string, { inflight, days, buckets: { calls, modelTokens } }: Meter) => [
      name,
      { inflight, days: worn(Object.fromEntries(days)), held: this.#held(name, calls, modelTokens) },
    ];
    const named = [...this.model.named].map(([name, meter]) => found(name, meter));
    const runs = [...this.model.runs].map(([run, { used, refusals }]) => {
      // Nothing limits the high-risk writes of a run, so nobody counts them.
      const { highRiskWrites: _h, ...counted } = used;
      return [run, { refusals, ...counted }];
    });
    return {
      meters: Object.fromEntries([found('', this.model.own), ...named]),
      runs: Object.fromEntries(runs),
    };
  }

  /** What buckets hold by now; null where nothing limits them. */
  #held(name: string, calls: Bucket, tokens: Bucket): (number | null)[] {
    const { callsPerMinute, modelTokensPerMinute } = this.model.limitsOf(name);
    return [[calls, callsPerMinute] as const, [tokens, modelTokensPerMinute] as const].map(
      ([{ level, at }, limit]) =>
        limit === undefined ? null : Math.max(0, level - (this.model.time - at) * limit),
    );
  }

  async #checkJournal(): Promise<void> {
    const counted = recount(await this.tenant.journal());
    expect(counted.violations).toEqual([]);
    expect(counted.inflight).toBe(0);
    expect(worn(counted.days)).toEqual(worn(Object.fromEntries(this.model.own.days)));
    for (const [name, meter] of this.model.named) {
      expect(counted.meters[name]?.inflight ?? 0).toBe(0);
      expect(worn(counted.meters[name]?.days ?? {})).toEqual(worn(Object.fromEntries(meter.days)));
    }
    for (const [run, { used }] of this.model.runs) expect(counted.runs[run] ?? NOTHING).toEqual(used);
    expect(counted.refusals).toEqual(
      Object.fromEntries([...this.model.refused].map(([key, { count }]) => [key, count])),
    );
    expect(await this.tenant.verify()).toEqual({ intact: true });
  }

  async #ask(command: Extract<Command, { do: 'ask' }>): Promise<void> {
    const { class: callClass, action } = KINDS[command.kind] ?? KINDS[0]!;
    const known = command.again === null ? undefined : this.#positions.at(-1 - command.again);
    const fresh = { run: this.#runs[command.slot] ?? '', path: `${this.#positions.length}.0` };
    const at = known && this.#works(known) && !this.#usedUp(known) ? known : fresh;
    if (at === fresh) this.#positions.push(at);
    const reserve = {
      toolCalls: command.toolCalls,
      steps: command.steps,
      microUsd: command.microUsd,
      modelTokens: callClass === 'model' ? command.modelTokens : 0,
    };
    const request = this.tenant.admission(at.run, at.path, {
      callClass,
      action,
      digest: digest([action, command.reworded]),
      system: null,
      reversible: isWrite(callClass) ? 'compensable' : null,
      keyValidMs: NEVER,
      leaseMs: command.leaseMs,
      verdict: command.denied ? { effect: 'deny', refusal: refusal() } : { effect: 'allow', rules: ['all'] },
      reserve,
    });
    const { token, leaseMs } = request;
    const ask: Ask = {
      ...at,
      ...reserve,
      token,
      digest: request.digest,
      action,
      class: callClass,
      denied: command.denied,
      leaseMs,
    };
    if ((await this.#admit(request, ask)) !== 'refused') this.#attempts.push({ request, ask });
  }

  async #admit(request: AdmitRequest, ask: Ask): Promise<string> {
    const expected = this.model.admit(ask);
    const { epoch: _e, quietMs: _q, reviewed: _r, ...answer } = said(await this.tenant.store.admit(request));
    if (answer.answer === 'replayed') delete answer.rule;
    expect(answer).toEqual(expected);
    return answer.answer;
  }

  async #start(slot: number): Promise<void> {
    if (this.#runs[slot] !== undefined) await this.#leave(slot);
    const run = `r-${(this.#started += 1)}`;
    const agent = AGENTS[this.#started % 2] ?? '';
    this.#runs[slot] = run;
    this.model.start(run, agent);
    const runId = RunId.parse(run);
    const acceptance = this.tenant.acceptance(runId);
    const envelope = { ...acceptance.signed.envelope, agentId: AgentId.parse(agent) };
    await this.tenant.store.acceptRun({ ...acceptance, signed: { ...acceptance.signed, envelope } });
    const entry = { runId, temporalRunId: `${run}/1`, previousTemporalRunId: null, generation: 0 };
    expect(await this.tenant.store.enterRun(entry)).toMatchObject({ kind: 'entered' });
  }

  async #leave(slot: number): Promise<void> {
    const run = this.#runs[slot] ?? '';
    this.model.leave(run);
    const undo = { onFailure: false, onKill: false };
    const left = {
      runId: RunId.parse(run),
      temporalRunId: null,
      stopReason: 'completed',
      outputRef: null,
      undo,
    } as const;
    await this.tenant.store.leaveRun(left);
  }

  #works({ run }: { run: string }): boolean {
    return this.#runs.includes(run);
  }
  #usedUp({ run, path }: { run: string; path: string }): boolean {
    return (this.model.calls.get(`${run}|${path}`)?.attempts ?? 0) >= ATTEMPTS;
  }
}

interface Found {
  readonly name: string;
  readonly inflight: number;
  readonly day: number;
  readonly used: Amounts;
  readonly closed: Record<number, Amounts>;
  readonly buckets: (number | string)[];
}

/** Days without use left out. */
const worn = (days: Record<number, Amounts>): Record<string, Amounts> =>
  Object.fromEntries(Object.entries(days).filter(([, used]) => Object.values(used).some((of) => of !== 0)));

const inHarness = ({ limits, perRun, perAction, perAgent, timeZone }: Quota) => {
  const { callsInFlight, toolCallsPerDay, ...more } = limits;
  return {
    callsInFlight,
    toolCallsPerDay,
    perRunSteps: perRun.steps,
    more,
    perRun,
    perAction,
    perAgent,
    timeZone,
  };
};
