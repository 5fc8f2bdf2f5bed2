import { LedgerModel } from './model';
import { HORIZON, isWrite, type Call, type FollowUp, type Resolution } from './model-words';

/** What an undo goes through: path, state of the write, state of its undo. */
export type Item = readonly [path: string, state: string, undo: string | null];

/** The model of what waits for a person or is done beside a run: reviews, dead letters, follow-ups, purging, dead hosts. */
export class DoubtModel extends LedgerModel {
  readonly hosts = new Map<string, number>();

  leave(run: string, stopReason: string, undo: { onFailure: boolean; onKill: boolean }): string {
    const row = this.runOf(run);
    const stays = this.stopReasons.get(run);
    if (row.closed && stays !== undefined) return stays;
    row.closed = true;
    this.last = this.time;
    const fenced = (this.acceptedUnder.get(run) ?? this.epoch) < this.epoch;
    const gentle = stopReason === 'completed' || stopReason === 'cancelled';
    const reason = fenced && !gentle ? 'killed' : stopReason;
    this.stopReasons.set(run, reason);
    const begun = this.followUps.filter((each) => each.run === run && each.kind === 'undo');
    for (const each of begun.filter(({ state }) => state !== 'done')) {
      each.state = reason !== 'killed' || undo.onKill ? 'wanted' : 'done';
      each.workflow = null;
      each.epoch = this.epoch;
    }
    const ordered = reason === 'killed' ? undo.onKill : !gentle && undo.onFailure;
    if (begun.length === 0 && ordered && this.#undoable(run)) this.#order(run, 'undo', null, null);
    return reason;
  }
  readonly stopReasons = new Map<string, string>();

  resolve(at: number, resolution: Resolution): 'resolved' | 'already' | 'absent' | 'BH020' {
    const review = this.reviews[at];
    if (!review) return 'absent';
    if (review.resolution) return 'already';
    if (!isWrite(review.class) && resolution !== 'abandon') return 'BH020';
    const call = this.calls.get(`${review.run}|${review.path}`);
    this.last = this.time;
    review.resolution = resolution;
    if (call?.review !== review) return 'resolved';
    call.review = null;
    if (call.token !== review.token || (call.state !== 'unknown' && call.state !== 'failed'))
      return 'resolved';
    if (resolution === 'happened') Object.assign(call, { state: 'succeeded', rule: undefined });
    if (resolution === 'abandon') Object.assign(call, { state: 'failed', rule: 'review_abandoned' });
    if (resolution === 'did_not_happen') {
      const { closed, undone } = this.runOf(review.run);
      const atWork = this.followUps.some(
        (each) =>
          each.run === review.run &&
          each.state !== 'done' &&
          (each.kind === 'undo' || each.path === review.path),
      );
      const letter = closed && !undone && !atWork && call.undoOf === null;
      Object.assign(call, { state: 'open', attempts: 0, ...(letter && { rule: 'did_not_happen' }) });
      const { run, path } = review;
      if (letter) this.letters.push({ run, path, class: call.class, rule: 'did_not_happen', state: 'dead' });
      this.runOf(review.run).steps -= call.steps;
      const attempt = this.attempts.get(call.token);
      if (attempt) {
        const { toolCalls, microUsd } = attempt.charged;
        this.charge(review.run, attempt.day, { toolCalls: -toolCalls, microUsd: -microUsd });
        attempt.charged = { toolCalls: 0, microUsd: 0 };
      }
    }
    return 'resolved';
  }

  retry(at: number): 'ordered' | 'already' | 'absent' | 'refused' {
    const letter = this.letters[at];
    if (!letter) return 'absent';
    if (letter.state === 'retried') return 'already';
    const call = this.calls.get(`${letter.run}|${letter.path}`);
    const run = this.runOf(letter.run);
    const fenced = (this.acceptedUnder.get(letter.run) ?? this.epoch) < this.epoch;
    const may =
      letter.state === 'dead' &&
      letter.class !== 'model' &&
      this.rewound === 0 &&
      this.mode === 'normal' &&
      !fenced &&
      run.acceptedAt > this.time - HORIZON &&
      !run.undone &&
      ((call?.state === 'failed' && call.rule === 'attempts_exhausted') ||
        (call?.state === 'open' && call.rule === 'did_not_happen'));
    if (!may) return 'refused';
    Object.assign(call, { state: 'open', attempts: 0 });
    letter.state = 'retried';
    this.#order(letter.run, 'retry', letter.path, at);
    return 'ordered';
  }

  discard(at: number): 'discarded' | 'already' | 'absent' {
    const letter = this.letters[at];
    if (!letter) return 'absent';
    if (letter.state !== 'dead') return 'already';
    letter.state = 'discarded';
    this.last = this.time;
    return 'discarded';
  }

  orderUndo(run: string): 'ordered' | 'already' | 'nothing' | 'open' {
    if (!this.runOf(run).closed) return 'open';
    if (this.#undoing(run)) return 'already';
    if (this.runOf(run).acceptedAt <= this.time - HORIZON || !this.#undoable(run)) return 'nothing';
    this.#order(run, 'undo', null, null);
    return 'ordered';
  }

  beginUndo(run: string, workflow: string): Item[] | 'nothing' {
    const row = this.runOf(run);
    if (row.closed || row.workflow !== workflow) return 'nothing';
    let followUp = this.#undoing(run);
    if (!followUp) {
      if (row.acceptedAt <= this.time - HORIZON || !this.#undoable(run)) return 'nothing';
      followUp = this.#order(run, 'undo', null, null);
    }
    this.#enter(followUp, workflow);
    return this.items(run);
  }

  /** Its items, or the rule that refuses. */
  enter(at: number, workflow: string): Item[] | string {
    const followUp = this.followUps[at];
    const run = this.runs.get(followUp?.run ?? '');
    const [rule, kind] =
      this.rewound > 0
        ? ['ledger_rewound', 'frozen']
        : !followUp
          ? ['follow_up_absent', 'denied']
          : followUp.state === 'done'
            ? ['follow_up_done', 'denied']
            : followUp.kind === 'undo' && run && !run.closed && run.workflow !== workflow
              ? ['run_open', 'denied']
              : [];
    if (!followUp || (rule && kind)) {
      this.count(rule ?? '', 'follow_up.enter', kind ?? '');
      return rule ?? '';
    }
    this.#enter(followUp, workflow);
    return followUp.kind === 'undo' ? this.items(followUp.run) : [];
  }

  leaveFollowUp(at: number, workflow: string): void {
    const followUp = this.followUps[at];
    if (followUp?.state !== 'entered' || followUp.workflow !== workflow) return;
    followUp.state = 'done';
    this.last = this.time;
    const call = this.calls.get(`${followUp.run}|${followUp.path}`);
    const letter = this.letters[followUp.letter ?? -1];
    if (followUp.kind === 'retry' && call?.state === 'open' && letter) {
      Object.assign(call, { state: letter.rule === 'did_not_happen' ? 'open' : 'failed', rule: letter.rule });
      letter.state = 'dead';
    }
  }

  items(run: string): Item[] {
    return this.#writes(run).map(([path, call]) => [
      path,
      call.state === 'failed' ? 'unknown' : call.state,
      this.#undoOf(run, path)?.state ?? null,
    ]);
  }

  beat(host: string): void {
    this.hosts.set(host, this.now);
  }

  /** Answers the tokens of the attempts whose leases it ends. */
  mourn(silentMs: number): string[] {
    const ended: string[] = [];
    for (const call of this.calls.values()) {
      const seen = this.hosts.get(call.host);
      const silent = seen !== undefined && seen <= this.now - silentMs;
      if (call.state !== 'claimed' || !silent || call.leaseUntil <= this.time) continue;
      this.last = call.leaseUntil = this.time;
      ended.push(call.token);
    }
    return ended;
  }

  purge(): void {
    for (const [key, call] of this.calls) {
      const run = this.runOf(key.split('|')[0] ?? '');
      const expired = run.closed && run.acceptedAt <= this.now - HORIZON;
      const followed = this.followUps.some((each) => key.startsWith(`${each.run}|`) && each.state !== 'done');
      if (!expired || followed || call.state === 'claimed' || call.review) continue;
      this.calls.delete(key);
      this.last = this.time;
      for (const [token, of] of this.asked) if (of === key) this.attempts.delete(token);
    }
  }
  /** Which call each token was for. */
  readonly asked = new Map<string, string>();

  #undoing(run: string): FollowUp | undefined {
    return this.followUps.find((each) => each.run === run && each.kind === 'undo' && each.state !== 'done');
  }

  #order(run: string, kind: FollowUp['kind'], path: string | null, letter: number | null): FollowUp {
    const followUp: FollowUp = {
      run,
      kind,
      path,
      letter,
      state: 'wanted',
      epoch: this.epoch,
      workflow: null,
    };
    this.followUps.push(followUp);
    this.last = this.time;
    return followUp;
  }

  #enter(followUp: FollowUp, workflow: string): void {
    if (followUp.state === 'entered' && followUp.workflow === workflow) return;
    if (followUp.kind === 'undo') this.runOf(followUp.run).undone = true;
    followUp.state = 'entered';
    followUp.workflow = workflow;
    this.last = this.time;
  }

  /** Forward writes that happened or may have, the newest first claim first. */
  #writes(run: string): [string, Call][] {
    return [...this.calls]
      .filter(([key, call]) => key.startsWith(`${run}|`) && isWrite(call.class) && call.undoOf === null)
      .filter(
        ([, { state, review }]) =>
          state === 'claimed' ||
          state === 'succeeded' ||
          state === 'unknown' ||
          // Its result was not believed, which says nothing of whether it happened.
          (state === 'failed' && review !== null),
      )
      .map(([key, call]): [string, Call] => [key.split('|')[1] ?? '', call])
      .sort(([, a], [, b]) => b.order - a.order);
  }

  #undoOf(run: string, path: string): Call | undefined {
    return this.calls.get(`${run}|${path}/undo`);
  }

  #undoable(run: string): boolean {
    return this.#writes(run).some(([path]) => {
      const undo = this.#undoOf(run, path);
      return !undo || (undo.state !== 'succeeded' && !(undo.state === 'failed' && !undo.review));
    });
  }
}
