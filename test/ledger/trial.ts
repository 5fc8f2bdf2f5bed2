import type { AdmitRequest, Admission } from '../../contracts/ledger';
import { undoPath } from '../../contracts/calls';
import { RunId } from '../../contracts/ids';
import type { UndoItem } from '../../contracts/reviews';
import { decidedBy, digest, refusal, type LedgerTenant, type LedgerWorld } from './harness';
import {
  isWrite,
  type Ask,
  type Doubt,
  type ModelClass,
  type Resolution,
  type Result,
  type Said,
} from './model';
import { DoubtModel, type Item } from './model-doubt';
import { recount } from './recount';

const START = Date.UTC(2025, 2, 10, 23, 58);
export const LEASE = 5_000;
/** As short as it may be. */
export const SILENCE = 5_000;
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
      /** The tenant's connection is another now. */
      elsewhere: boolean;
      denied: boolean;
      stale: boolean;
      stranger: boolean;
      ahead: boolean;
      toolCalls: 0 | 1;
      steps: 0 | 1;
      microUsd: number;
      host: number;
      /** Asks as the workflow of one of the follow-ups, counted from the newest. */
      followUp: number | null;
      undo: boolean;
      pastFence: boolean;
    }
  | { do: 'ask again'; attempt: number }
  | { do: 'send'; attempt: number }
  | { do: 'settle'; attempt: number; result: Result; toolCalls: 0 | 1; microUsd: number; doubt: Doubt }
  | { do: 'tick'; ms: number }
  | { do: 'kill' | 'release' | 'publish' | 'reap' }
  | { do: 'limits'; callsInFlight: number; toolCallsPerDay: number; perRunSteps: number }
  | { do: 'leave'; slot: number; completed: boolean; onFailure: boolean; onKill: boolean }
  | { do: 'start'; slot: number }
  | { do: 'order undo' | 'begin undo'; slot: number }
  | { do: 'resolve'; back: number; resolution: Resolution }
  | { do: 'retry' | 'discard' | 'enter' | 'leave follow-up'; back: number }
  | { do: 'beat'; host: number }
  | { do: 'mourn' | 'purge' };
const BY = { actor: 'op', note: '' };

/** One sequence against a tenant of its own: the ledger, the model, and a system outside that counts effects. */
export class Trial {
  readonly model: DoubtModel;
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
    limits: DoubtModel['limits'],
  ) {
    this.model = new DoubtModel(START, limits);
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
        const known = PATHS[command.path] ?? PATHS[0]!;
        const { class: callClass, action } = known;
        const followUp =
          command.followUp === null ? undefined : this.model.followUps.at(-1 - command.followUp);
        const run = followUp?.run ?? this.#runs[command.slot] ?? '';
        const undoOf = command.undo && isWrite(callClass) ? known.path : null;
        const path = undoOf === null ? known.path : undoPath(undoOf);
        const microUsd = callClass === 'model' ? command.microUsd : 0;
        const reserve =
          undoOf === null ? { toolCalls: command.toolCalls, steps: command.steps, microUsd } : FREE;
        const own = followUp && this.#workflow(followUp.run, this.model.followUps.indexOf(followUp));
        const workflow = command.stranger ? 'reset' : (own ?? `${run}/1`);
        const host = `${this.tenant.tenantId}-${command.host}`;
        const ahead = command.ahead ? (this.#ahead += 1_000_000) : 0;
        const request = this.tenant.admission(run, path, {
          callClass,
          action,
          digest: digest([path, command.reworded]),
          temporalRunId: workflow,
          hostId: host,
          reversible: isWrite(callClass) ? 'compensable' : null,
          undoOf,
          pastFence: command.pastFence,
          account: digest(command.elsewhere),
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
          workflow,
          host,
          undoOf,
          pastFence: command.pastFence,
          account: request.account,
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
        const charge =
          ask.undoOf === null
            ? { toolCalls: command.toolCalls, microUsd: command.microUsd }
            : { toolCalls: 0 as const, microUsd: 0 };
        const doubt = result === 'succeeded' ? 'none' : command.doubt;
        const expected = this.model.settle(ask.run, ask.path, ask.token, result, charge, doubt);
        const why = doubt === 'none' ? null : refusal({ kind: doubt, rule: doubt });
        const { answer } = await this.tenant.store.settle(
          this.tenant.settlement(request, { result, charge, refusal: why }),
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
        if (this.model.rewound > 0) {
          this.model.recover();
          await this.tenant.store.recovery.finish({ actor: 'op', counts: {} });
        }
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
        return this.#reap();
      case 'leave': {
        const run = RunId.parse(this.#runs[command.slot]);
        const undo = { onFailure: command.onFailure, onKill: command.onKill };
        const stopReason = command.completed ? 'completed' : 'failed';
        const expected = this.model.leave(run, stopReason, undo);
        const left = await this.tenant.store.leaveRun({
          runId: run,
          temporalRunId: null,
          stopReason,
          outputRef: null,
          undo,
        });
        expect(left.stopReason).toBe(expected);
        return;
      }
      case 'start':
        return this.#start(command.slot);
      default:
        return this.#afterwards(command);
    }
  }

  /** The reaper takes its calls in any order, so their reviews are numbered in any order too. */
  async #reap(): Promise<void> {
    const known = this.model.reviews.length;
    this.model.reap();
    await this.tenant.world.platform.reapCalls(1_000);
    const opened = this.model.reviews.splice(known);
    if (opened.length === 0) return;
    const { rows } = await this.tenant.world.admin.query<{ key: string }>(
      `select run_id || '|' || path as key from bulkhead.reviews where tenant_id = $1 order by review_no offset $2`,
      [this.tenant.tenantId, known],
    );
    const order = rows.map(({ key }) => key);
    opened.sort((a, b) => order.indexOf(`${a.run}|${a.path}`) - order.indexOf(`${b.run}|${b.path}`));
    this.model.reviews.push(...opened);
  }

  /** What people and follow-ups do. */
  async #afterwards(
    command: Extract<
      Command,
      {
        do:
          | 'order undo'
          | 'begin undo'
          | 'resolve'
          | 'retry'
          | 'discard'
          | 'enter'
          | 'leave follow-up'
          | 'beat'
          | 'mourn'
          | 'purge';
      }
    >,
  ): Promise<void> {
    const { model } = this;
    const { store, world } = this.tenant;
    switch (command.do) {
      case 'order undo': {
        const runId = RunId.parse(this.#runs[command.slot]);
        const expected = model.orderUndo(runId);
        expect(await store.orderUndo({ runId, ...BY })).toMatchObject({ kind: expected });
        return;
      }
      case 'begin undo': {
        const runId = RunId.parse(this.#runs[command.slot]);
        const expected = model.beginUndo(runId, `${runId}/1`);
        const answer = await store.beginUndo({ runId, temporalRunId: `${runId}/1` });
        expect(answer.kind === 'entered' ? items(answer.items) : answer.kind).toEqual(expected);
        return;
      }
      case 'resolve': {
        const at = model.reviews.length - 1 - command.back;
        const review = model.reviews[at];
        const key = `${review?.run}|${review?.path}`;
        // Who looks it up at the system finds the truth, and by then nobody is about to send any more.
        const resolution =
          command.resolution === 'did_not_happen' && this.#blindSends.has(key)
            ? 'happened'
            : command.resolution;
        for (const known of this.#attempts)
          if (key === `${known.ask.run}|${known.ask.path}`) known.settled = true;
        const expected = model.resolve(at, resolution);
        const answer = await store
          .resolveReview({
            reviewNo: await this.#number('reviews', 'review_no', at),
            resolution,
            payload: { kind: 'input', input: 'found' },
            payloadDigest: digest('found'),
            ...BY,
          })
          .catch((error: unknown) => ({ kind: (error as { code?: string }).code }));
        expect(answer.kind).toBe(expected);
        return;
      }
      case 'retry':
      case 'discard': {
        const at = model.letters.length - 1 - command.back;
        const letterNo = await this.#number('dead_letters', 'letter_no', at);
        if (command.do === 'discard') {
          const expected = model.discard(at);
          expect(await store.discardDeadLetter({ letterNo, ...BY })).toBe(expected);
        } else {
          const expected = model.retry(at);
          expect(await store.retryDeadLetter({ letterNo, ...BY })).toMatchObject({ kind: expected });
        }
        return;
      }
      case 'enter':
      case 'leave follow-up': {
        const at = model.followUps.length - 1 - command.back;
        const run = model.followUps[at]?.run ?? this.#runs[0] ?? '';
        const runId = RunId.parse(run);
        const followUpNo = await this.#number('follow_ups', 'follow_up_no', at);
        const temporalRunId = this.#workflow(run, at);
        if (command.do === 'enter') {
          const expected = model.enter(at, temporalRunId);
          const answer = await store.enterFollowUp({ runId, followUpNo, temporalRunId });
          expect(answer.kind === 'entered' ? items(answer.items) : answer.refusal.rule).toEqual(expected);
        } else {
          model.leaveFollowUp(at, temporalRunId);
          await store.leaveFollowUp({ runId, followUpNo, temporalRunId, outcome: null });
        }
        return;
      }
      case 'beat': {
        const hostId = `${this.tenant.tenantId}-${command.host}`;
        model.beat(hostId);
        return world.platform.heartbeatHost({ hostId, pid: 1, roles: [] });
      }
      case 'mourn': {
        const ended = model.mourn(SILENCE);
        // The dead send nothing any more.
        for (const known of this.#attempts) if (ended.includes(known.ask.token)) known.settled = true;
        await world.platform.endLeasesOfDeadHosts(SILENCE);
        return;
      }
      case 'purge':
        model.purge();
        while ((await world.platform.purge(1_000)) > 0);
        return;
    }
  }

  /** The workflow that does a follow-up: the run's own where the run has begun it, else one that is the follow-up's alone. */
  #workflow(run: string, at: number): string {
    const workflow = this.model.followUps[at]?.workflow;
    return workflow ?? `${run}/follow-up/${at}`;
  }

  /** The real number of what the model counts from 0; a number that was never given out, where it knows none. */
  async #number(table: string, column: string, at: number): Promise<number> {
    if (at < 0) return 999_999_999;
    const found = await this.tenant.world.admin.query<{ no: string }>(
      `select ${column} as no from bulkhead.${table} where tenant_id = $1 order by 1 limit 1 offset $2`,
      [this.tenant.tenantId, at],
    );
    return Number(found.rows[0]?.no);
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
         (select json_object_agg(run_id, json_build_object('closed', state = 'closed', 'undone', undone, 'steps', steps, 'toolCalls', tool_calls,
           'microUsd', spent_micro_usd, 'refusals', refusals)) from bulkhead.runs where tenant_id = $1) as runs`,
      [tenant.tenantId],
    );
    expect(counted.rows[0]?.days ?? {}).toEqual(this.#days());
    const runs = [...model.runs].map(([run, { workflow: _w, acceptedAt: _a, ...counters }]) => [
      run,
      counters,
    ]);
    expect(counted.rows[0]?.runs ?? {}).toEqual(Object.fromEntries(runs));
    await this.#checkDoubts();
  }

  async #checkDoubts(): Promise<void> {
    const { model, tenant } = this;
    const found = await tenant.world.admin.query<
      Record<'calls' | 'reviews' | 'letters' | 'follow_ups', unknown>
    >(
      `select (select json_object_agg(run_id || '|' || path, json_build_array(state, review_no is not null))
           from bulkhead.calls where tenant_id = $1) as calls,
         (select json_agg(json_build_array(run_id, path, kind, resolution) order by review_no)
           from bulkhead.reviews where tenant_id = $1) as reviews,
         (select json_agg(json_build_array(run_id, path, state) order by letter_no)
           from bulkhead.dead_letters where tenant_id = $1) as letters,
         (select json_agg(json_build_array(run_id, kind, path, state, epoch) order by follow_up_no)
           from bulkhead.follow_ups where tenant_id = $1) as follow_ups`,
      [tenant.tenantId],
    );
    const { calls, reviews, letters, follow_ups: followUps } = found.rows[0] ?? {};
    expect(calls ?? {}).toEqual(
      Object.fromEntries([...model.calls].map(([key, { state, review }]) => [key, [state, review !== null]])),
    );
    expect(reviews ?? []).toEqual(
      model.reviews.map(({ run, path, kind, resolution }) => [run, path, kind, resolution]),
    );
    expect(letters ?? []).toEqual(model.letters.map(({ run, path, state }) => [run, path, state]));
    expect(followUps ?? []).toEqual(
      model.followUps.map(({ run, kind, path, state, epoch }) => [run, kind, path, state, epoch]),
    );
  }

  /** Everybody goes home: nothing may be left in flight, and the journal alone gives every counter again. */
  async end(): Promise<void> {
    const keep = { completed: true, onFailure: false, onKill: false };
    await this.do({ do: 'leave', slot: 0, ...keep });
    await this.do({ do: 'leave', slot: 1, ...keep });
    this.model.now = Math.max(this.model.now, this.model.last) + 86_400_000;
    await this.tenant.world.setClock(new Date(this.model.now));
    await this.do({ do: 'reap' });
    for (const run of this.model.runs.keys()) {
      const undo = { onFailure: false, onKill: false };
      this.model.leave(run, 'completed', undo);
      await this.tenant.store.leaveRun({
        runId: RunId.parse(run),
        temporalRunId: null,
        stopReason: 'completed',
        outputRef: null,
        undo,
      });
    }
    if (this.model.rewound > 0) await this.do({ do: 'release' });
    for (let at = 0; at < this.model.followUps.length; at += 1) {
      await this.do({ do: 'enter', back: this.model.followUps.length - 1 - at });
      await this.do({ do: 'leave follow-up', back: this.model.followUps.length - 1 - at });
    }
    for (const run of this.model.runs.keys()) this.#runs.push(run);
    for (let slot = 2; slot < this.#runs.length; slot += 1) await this.do({ do: 'leave', slot, ...keep });
    this.model.now = Math.max(this.model.now, this.model.last) + 86_400_000;
    await this.tenant.world.setClock(new Date(this.model.now));
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
    // Numbers that a lost ledger had given are jumped over, and said to be.
    expect(await this.tenant.verify()).toMatchObject({ intact: true });
  }

  async #admit(request: AdmitRequest, ask: Ask): Promise<Said> {
    const expected = this.model.admit(ask);
    this.model.asked.set(ask.token, `${ask.run}|${ask.path}`);
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

const FREE = { toolCalls: 0, steps: 0, microUsd: 0 } as const;
const items = (of: readonly UndoItem[]): Item[] => of.map(({ path, state, undo }) => [path, state, undo]);

function said(answer: Admission): Said {
  switch (answer.answer) {
    case 'admitted':
      return { answer: 'admitted', attempt: answer.attempt, epoch: answer.epoch };
    case 'recover':
      return {
        answer: 'recover',
        lookupOnly: answer.lookupOnly,
        quietMs: answer.quietMs,
        attempt: answer.attempt,
        epoch: answer.epoch,
      };
    case 'replayed': {
      const { state, refusal: why, reviewNo } = answer.outcome;
      return { answer: 'replayed', state, reviewed: reviewNo !== null, ...(why && { rule: why.rule }) };
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
