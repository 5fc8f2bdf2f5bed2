import { RunId } from '../../contracts/ids';
import { digest, type LedgerWorld } from './harness';
import { checkCounters, checkDoubts, checkJournal } from './trial-check';
import { BY, items, SILENCE, START, type Command } from './trial-words';
import { Workers } from './trial-workers';

/** One sequence against a tenant of its own: the ledger, the model, and a system outside that counts effects. */
export class Trial extends Workers {
  static async open(world: LedgerWorld): Promise<Trial> {
    await world.setClock(new Date(START));
    const limits = { callsInFlight: 3, toolCallsPerDay: 8, perRunSteps: 10 };
    const trial = new Trial(await world.tenant(limits), limits);
    await trial.start(0);
    await trial.start(1);
    return trial;
  }

  async do(command: Command): Promise<void> {
    switch (command.do) {
      case 'ask':
        return this.ask(command);
      case 'ask again':
        return this.askAgain(command);
      case 'send':
        this.send(command);
        return;
      case 'settle':
        return this.settle(command);
      case 'tick':
        this.elapsed += Math.max(0, command.ms);
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
        return this.start(0);
      case 'publish':
        this.model.publish((this.version += 1));
        await this.tenant.publish(this.version);
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
        const run = RunId.parse(this.runs[command.slot]);
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
        return this.start(command.slot);
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
        const runId = RunId.parse(this.runs[command.slot]);
        const expected = model.orderUndo(runId);
        expect(await store.orderUndo({ runId, ...BY })).toMatchObject({ kind: expected });
        return;
      }
      case 'begin undo': {
        const runId = RunId.parse(this.runs[command.slot]);
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
          command.resolution === 'did_not_happen' && this.blindSends.has(key)
            ? 'happened'
            : command.resolution;
        for (const known of this.attempts)
          if (key === `${known.ask.run}|${known.ask.path}`) known.settled = true;
        const expected = model.resolve(at, resolution);
        const answer = await store
          .resolveReview({
            reviewNo: await this.#number('reviews', 'review_no', at),
            resolution,
            payload: { kind: 'input', input: 'found' },
            payloadDigest: digest('found'),
            shown: null,
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
        const run = model.followUps[at]?.run ?? this.runs[0] ?? '';
        const runId = RunId.parse(run);
        const followUpNo = await this.#number('follow_ups', 'follow_up_no', at);
        const temporalRunId = this.workflow(run, at);
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
        for (const known of this.attempts) if (ended.includes(known.ask.token)) known.settled = true;
        await world.platform.endLeasesOfDeadHosts(SILENCE);
        return;
      }
      case 'purge':
        model.purge();
        // How often a run is looked at again that could not be forgotten whole is no matter of the model's.
        await world.admin.query(
          'update bulkhead.runs set purge_again_at = null where purge_again_at is not null and tenant_id = $1',
          [this.tenant.tenantId],
        );
        while ((await world.platform.purge(1_000)) > 0);
        return;
    }
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

  /** What is on disk against the model. */
  async check(): Promise<void> {
    await checkCounters(this.model, this.tenant);
    await checkDoubts(this.model, this.tenant);
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
    for (const run of this.model.runs.keys()) this.runs.push(run);
    for (let slot = 2; slot < this.runs.length; slot += 1) await this.do({ do: 'leave', slot, ...keep });
    this.model.now = Math.max(this.model.now, this.model.last) + 86_400_000;
    await this.tenant.world.setClock(new Date(this.model.now));
    await this.do({ do: 'reap' });
    expect(this.model.inflight).toBe(0);
    await this.check();
    await checkJournal(this.model, this.tenant);
  }
}
