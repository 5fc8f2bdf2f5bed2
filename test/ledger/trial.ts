import type { AdmitRequest, Admission } from '../../contracts/ledger';
import { RunId } from '../../contracts/ids';
import { decidedBy, digest, refusal, type LedgerTenant, type LedgerWorld } from './harness';
import { LedgerModel, type Ask, type ModelClass, type Result, type Said } from './model';
import { recount } from './recount';

const START = Date.UTC(2025, 2, 10, 23, 58);
export const LEASE = 5_000;
export const PATHS: readonly { path: string; class: ModelClass; action: string }[] = [
  { path: '0.0', class: 'model', action: 'model.generate' },
  { path: '0.1', class: 'read', action: 'ticket.read' },
  { path: '0.2', class: 'write', action: 'ticket.update' },
  { path: '0.3', class: 'high_risk_write', action: 'payment.refund' },
];

export type Command =
  | {
      do: 'ask';
      slot: number;
      path: number;
      reworded: boolean;
      denied: boolean;
      stale: boolean;
      stranger: boolean;
      ahead: boolean;
      toolCalls: 0 | 1;
      steps: 0 | 1;
      microUsd: number;
    }
  | { do: 'ask again'; attempt: number }
  | { do: 'send'; attempt: number }
  | { do: 'settle'; attempt: number; result: Result; toolCalls: 0 | 1; microUsd: number }
  | { do: 'tick'; ms: number }
  | { do: 'kill' | 'release' | 'publish' | 'reap' }
  | { do: 'limits'; callsInFlight: number; toolCallsPerDay: number; perRunSteps: number }
  | { do: 'leave' | 'start'; slot: number };

/** One sequence against a tenant of its own: the ledger, the model, and a system outside that counts effects. */
export class Trial {
  readonly model: LedgerModel;
  readonly #attempts: {
    request: AdmitRequest;
    ask: Ask;
    sent: boolean;
    settled: boolean;
    lookupOnly: boolean;
    deadline: number;
  }[] = [];
  readonly #runs: string[] = [];
  /** Write positions that something was sent for, and how often without the remote's key making it harmless. */
  readonly #blindSends = new Map<string, number>();
  #version = 1;
  #started = 0;
  #ahead = 1_000_000;
  /** The workers' own clock, which never steps back. */
  #elapsed = 0;

  private constructor(
    readonly tenant: LedgerTenant,
    limits: LedgerModel['limits'],
  ) {
    this.model = new LedgerModel(START, limits);
  }

  static async open(world: LedgerWorld): Promise<Trial> {
    await world.setClock(new Date(START));
    const limits = { callsInFlight: 3, toolCallsPerDay: 8, perRunSteps: 10 };
    const trial = new Trial(await world.tenant(limits), limits);
    await trial.#start(0);
    await trial.#start(1);
    return trial;
  }

  async do(command: Command): Promise<void> {
    switch (command.do) {
      case 'ask': {
        const { path, class: callClass, action } = PATHS[command.path] ?? PATHS[0]!;
        const run = this.#runs[command.slot] ?? '';
        const microUsd = callClass === 'model' ? command.microUsd : 0;
        const reserve = { toolCalls: command.toolCalls, steps: command.steps, microUsd };
        const ahead = command.ahead ? (this.#ahead += 1) : 0;
        const request = this.tenant.admission(run, path, {
          callClass,
          action,
          digest: digest([path, command.reworded]),
          temporalRunId: command.stranger ? 'reset' : `${run}/1`,
          decidedBy: decidedBy(command.stale ? this.#version - 1 : this.#version),
          verdict: command.denied
            ? { effect: 'deny', refusal: refusal() }
            : { effect: 'allow', rules: ['all'] },
          leaseMs: LEASE,
          seenSeq: ahead,
          reserve,
        });
        const ask: Ask = {
          ...reserve,
          run,
          path,
          action,
          class: callClass,
          digest: request.digest,
          token: request.token,
          policyVersion: request.decidedBy.policyVersion,
          denied: command.denied,
          entered: !command.stranger,
          ahead,
          leaseMs: LEASE,
        };
        const said = await this.#admit(request, ask);
        if (said.answer === 'admitted' || said.answer === 'recover') {
          this.#attempts.push({
            request,
            ask,
            sent: false,
            settled: false,
            lookupOnly: said.lookupOnly ?? false,
            deadline: this.#elapsed + LEASE,
          });
        }
        return;
      }
      case 'ask again': {
        const known = this.#attempt(command.attempt);
        if (known) await this.#admit(known.request, known.ask);
        return;
      }
      case 'send': {
        const known = this.#attempt(command.attempt);
        // An honest worker sends once, before its deadline by its own clock, and never after it has reported.
        if (!known || known.lookupOnly || known.sent || known.settled || this.#elapsed >= known.deadline)
          return;
        known.sent = true;
        const key = `${known.ask.run}|${known.ask.path}`;
        this.#blindSends.set(key, (this.#blindSends.get(key) ?? 0) + 1);
        return;
      }
      case 'settle': {
        const known = this.#attempt(command.attempt);
        if (!known) return;
        const { ask, request } = known;
        // An honest worker says `open` only where nothing was ever sent for this key.
        const wasSent = this.#blindSends.has(`${ask.run}|${ask.path}`);
        const result = command.result === 'open' && wasSent ? 'unknown' : command.result;
        if (result === 'succeeded' && !known.lookupOnly)
          await this.do({ do: 'send', attempt: command.attempt });
        known.settled = true;
        const charge = { toolCalls: command.toolCalls, microUsd: command.microUsd };
        const expected = this.model.settle(ask.run, ask.path, ask.token, result, charge);
        const { answer } = await this.tenant.store.settle(
          this.tenant.settlement(request, { result, charge }),
        );
        expect(answer).toBe(expected);
        return;
      }
      case 'tick':
        this.#elapsed += Math.max(0, command.ms);
        this.model.now += command.ms;
        await this.tenant.world.setClock(new Date(this.model.now));
        return;
      case 'kill':
        this.model.kill();
        await this.tenant.store.kill({ reason: 'test', actor: 'op' });
        return;
      case 'release':
        this.model.release();
        await this.tenant.store.release({ reason: 'test', actor: 'op' });
        // What the fence stopped stays stopped, so that work goes on in a new run; the other slot keeps its old one.
        return this.#start(0);
      case 'publish':
        this.model.publish((this.#version += 1));
        await this.tenant.publish(this.#version);
        return;
      case 'limits': {
        const { callsInFlight, toolCallsPerDay, perRunSteps } = command;
        this.model.setLimits({ callsInFlight, toolCallsPerDay, perRunSteps });
        await this.tenant.setLimits({ callsInFlight, toolCallsPerDay, perRunSteps });
        return;
      }
      case 'reap':
        // Other trials' tenants are swept along, so its answer says nothing of this one: the counters do.
        this.model.reap();
        await this.tenant.world.platform.reapCalls(1_000);
        return;
      case 'leave': {
        const run = RunId.parse(this.#runs[command.slot]);
        this.model.leave(run);
        await this.tenant.store.leaveRun({
          runId: run,
          temporalRunId: null,
          stopReason: 'completed',
          outputRef: null,
        });
        return;
      }
      case 'start':
        return this.#start(command.slot);
    }
  }

  /** What the superuser sees in the tables against the model. */
  async check(): Promise<void> {
    const { model, tenant } = this;
    const row = await tenant.row();
    expect({ ...row, claimed: await tenant.claimed() }).toMatchObject({
      mode: model.mode,
      fence_epoch: model.epoch,
      control_version: model.controlVersion,
      policy_version: model.policyVersion,
      inflight: model.inflight,
      claimed: model.inflight,
      rewound_seq: model.rewound,
    });
    const counted = await this.tenant.world.admin.query<{
      days: Record<string, number> | null;
      runs: object | null;
    }>(
      `select (select json_object_agg(window_no, used) from (
           select window_no, used from bulkhead.closed_windows where tenant_id = $1 and used <> 0
           union all select tool_day, tool_day_used from bulkhead.ledgers where tenant_id = $1 and tool_day_used <> 0) w) as days,
         (select json_object_agg(run_id, json_build_object('closed', state = 'closed', 'steps', steps, 'toolCalls', tool_calls,
           'microUsd', spent_micro_usd, 'refusals', refusals)) from bulkhead.runs where tenant_id = $1) as runs`,
      [tenant.tenantId],
    );
    expect(counted.rows[0]?.days ?? {}).toEqual(this.#days());
    expect(counted.rows[0]?.runs ?? {}).toEqual(Object.fromEntries(model.runs));
  }

  /** Everybody goes home: nothing may be left in flight, and the journal alone gives every counter again. */
  async end(): Promise<void> {
    await this.do({ do: 'leave', slot: 0 });
    await this.do({ do: 'leave', slot: 1 });
    this.model.now = Math.max(this.model.now, this.model.last) + 86_400_000;
    await this.tenant.world.setClock(new Date(this.model.now));
    await this.do({ do: 'reap' });
    for (const run of this.model.runs.keys()) {
      await this.tenant.store.leaveRun({
        runId: RunId.parse(run),
        temporalRunId: null,
        stopReason: 'completed',
        outputRef: null,
      });
      this.model.leave(run);
    }
    await this.do({ do: 'reap' });
    expect(this.model.inflight).toBe(0);
    await this.check();

    const counted = recount(await this.tenant.journal());
    const { model } = this;
    expect(counted.violations).toEqual([]);
    expect(counted).toMatchObject({
      inflight: 0,
      mode: model.mode,
      epoch: model.epoch,
      policyVersion: model.policyVersion,
      refusals: Object.fromEntries(model.refusals),
    });
    expect(Object.fromEntries(Object.entries(counted.days).filter(([, used]) => used !== 0))).toEqual(
      this.#days(),
    );
    for (const [run, { steps, toolCalls, microUsd }] of model.runs) {
      expect(counted.runs[run] ?? { steps: 0, toolCalls: 0, microUsd: 0 }).toEqual({
        steps,
        toolCalls,
        microUsd,
      });
    }
    expect(await this.tenant.verify()).toEqual({ intact: true });
  }

  async #admit(request: AdmitRequest, ask: Ask): Promise<Said> {
    const expected = this.model.admit(ask);
    const answer = await this.tenant.store.admit(request);
    expect(said(answer)).toEqual(expected);
    const mine = this.#attempts.some((known) => known.ask.token === ask.token);
    const write = ask.class === 'write' || ask.class === 'high_risk_write';
    if (answer.answer === 'admitted' && write && !mine && this.#blindSends.has(`${ask.run}|${ask.path}`)) {
      throw new Error(`${ask.path} was sent before and is admitted again, as if it had not been`);
    }
    return expected;
  }

  async #start(slot: number): Promise<void> {
    const runId = RunId.parse(`r-${(this.#started += 1)}`);
    const expected = this.model.start(runId);
    const { kind } = await this.tenant.store.acceptRun(this.tenant.acceptance(runId));
    expect(kind).toBe(expected ? 'accepted' : 'refused');
    if (!expected) return;
    this.#runs[slot] = runId;
    const entry = { runId, temporalRunId: `${runId}/1`, previousTemporalRunId: null, generation: 0 };
    expect(await this.tenant.store.enterRun(entry)).toMatchObject({ kind: 'entered' });
  }

  /** Counted from the newest: most of what happens, happens to recent attempts. */
  #attempt(back: number) {
    return this.#attempts[this.#attempts.length - 1 - back];
  }

  #days(): Record<string, number> {
    return Object.fromEntries(
      [...this.model.days].filter(([, used]) => used !== 0).map(([day, used]) => [String(day), used]),
    );
  }
}

function said(answer: Admission): Said {
  switch (answer.answer) {
    case 'admitted':
      return { answer: 'admitted', attempt: answer.attempt, epoch: answer.epoch };
    case 'recover':
      return {
        answer: 'recover',
        lookupOnly: answer.lookupOnly,
        attempt: answer.attempt,
        epoch: answer.epoch,
      };
    case 'replayed': {
      const { state, refusal: why } = answer.outcome;
      return { answer: 'replayed', state, ...(why && { rule: why.rule }) };
    }
    case 'in_flight':
      return { answer: 'in_flight', retryAfterMs: answer.retryAfterMs };
    case 'stale':
      return { answer: 'stale', policyVersion: answer.policyVersion };
    case 'refused': {
      const { kind, rule, value, used, retryAfterMs } = answer.refusal;
      return {
        answer: 'refused',
        kind,
        rule,
        ...(value !== undefined && { value }),
        ...(used !== undefined && { used }),
        ...(retryAfterMs !== undefined && { retryAfterMs }),
      };
    }
  }
}
