/**
 * What docs/ledger.md promises, said once more in plain TypeScript: no SQL, nothing shared with the code under test.
 * Times are milliseconds since 1970.
 */
import { ClaimModel } from './model-claims';
import { isWrite, MINUTE, type Cost, type Doubt, type Result } from './model-words';

/** How what was let in ends: reported, or reaped. */
export class LedgerModel extends ClaimModel {
  settle(
    run: string,
    path: string,
    token: string,
    result: Result,
    charge: Cost,
    doubt: Doubt = 'none',
  ): string {
    const call = this.calls.get(`${run}|${path}`);
    const attempt = this.attempts.get(token);
    const truth = result === 'open' ? { toolCalls: 0, microUsd: charge.microUsd } : charge;
    const charged = (to: Cost) => {
      if (!attempt) return;
      const { toolCalls, microUsd } = attempt.charged;
      this.charge(run, attempt.day, {
        toolCalls: to.toolCalls - toolCalls,
        microUsd: to.microUsd - microUsd,
      });
      attempt.charged = to;
      attempt.true = true;
    };
    if (call?.token === token && call.state === 'claimed') {
      if (result === 'unknown') Object.assign(attempt ?? {}, { true: true });
      else charged(truth);
      this.inflight -= 1;
      if (result === 'open') this.runOf(run).steps -= call.steps;
      Object.assign(call, { state: result, rule: doubt === 'none' ? undefined : doubt });
      if (!call.review && (result === 'failed' || result === 'unknown')) {
        const key = `${run}|${path}`;
        if (call.undoOf && result === 'failed') this.review(key, call, 'undo_failed');
        else if (doubt === 'scope_ambiguous') this.review(key, call, doubt);
        else if (result === 'unknown' && isWrite(call.class))
          this.review(key, call, doubt === 'read_back_mismatch' ? doubt : 'outcome_unknown');
      }
      this.last = this.time;
      return 'settled';
    }
    const misjudged =
      (call?.state === 'open' || call?.state === 'failed') &&
      this.reviews.some(
        (each) =>
          each.run === run &&
          each.path === path &&
          each.token === token &&
          each.kind === 'outcome_unknown' &&
          (each.resolution === 'did_not_happen' || each.resolution === 'abandon'),
      );
    if (call?.token === token && (call.state === 'unknown' || misjudged) && result === 'succeeded') {
      charged(truth);
      if (call.state === 'open') this.runOf(run).steps += call.steps;
      if (call.review) call.review.resolution = 'happened';
      Object.assign(call, { state: 'succeeded', rule: undefined, review: null });
      this.last = this.time;
      return 'reconciled';
    }
    if (call?.token === token && !(attempt && !attempt.true)) return 'already';
    if (attempt && !attempt.true && result !== 'unknown') charged(truth);
    this.last = this.time;
    return 'late';
  }

  /** Ends what outlived its lease; closes the minutes that are over. Answers how many calls it ended. */
  reap(): number {
    let reaped = 0;
    for (const [key, call] of this.calls) {
      if (call.state !== 'claimed' || call.leaseUntil > this.now) continue;
      const closed = this.runs.get(key.split('|')[0] ?? '')?.closed ?? true;
      const run = key.split('|')[0] ?? '';
      const followed = this.followUps.some((each) => each.run === run && each.state !== 'done');
      if (isWrite(call.class) && (!closed || followed)) continue;
      this.lose(key, call, 'lost');
      reaped += 1;
    }
    const minute = (at: number) => Math.floor(at / MINUTE);
    if ([...this.floods.values()].some((at) => at < minute(this.now))) {
      for (const [key, at] of this.floods) if (at < minute(this.time)) this.floods.delete(key);
      this.last = this.time;
    }
    return reaped;
  }
}
