import { ModelState } from './model-state';
import { DAY, HORIZON, isWrite, type Ask, type Call, type Said } from './model-words';

/** Which asks are let in, and as what: the key first, then the gates. */
export class ClaimModel extends ModelState {
  #claims = 0;

  admit(ask: Ask): Said {
    const n = this.time;
    const rewound = this.rewound > 0 || ask.ahead > this.acknowledged;
    const key = `${ask.run}|${ask.path}`;
    const call = this.calls.get(key);
    let attempt = 1;
    let passesSlotOn = false;
    const run = this.runs.get(ask.run);
    const own = run !== undefined && !run.closed && run.workflow === ask.workflow;
    const undoes = ask.undoOf !== null;
    const past = undoes && ask.pastFence;
    const followUp =
      undoes || !own
        ? this.followUps.findLast(
            (each) =>
              each.run === ask.run &&
              each.state === 'entered' &&
              each.workflow === ask.workflow &&
              (each.kind === 'undo' || each.path === ask.path),
          )
        : undefined;
    const under = (undoes ? followUp?.epoch : undefined) ?? this.acceptedUnder.get(ask.run) ?? this.epoch;
    const fenced = under < this.epoch && !past;
    if (call) {
      if (call.state === 'claimed' && call.token === ask.token) return call.said;
      if (call.state === 'claimed' && n < call.leaseUntil) {
        return { answer: 'in_flight', retryAfterMs: Math.min(1_000, call.leaseUntil - n) };
      }
      if (rewound && call.state !== 'succeeded')
        return this.refuse(ask, true, { kind: 'frozen', rule: 'ledger_rewound', retryAfterMs: 30_000 });
      const over = call.state !== 'claimed';
      if (isWrite(call.class) && call.digest !== ask.digest && !(undoes && over)) {
        if (!over) {
          this.lose(key, call, 'arguments_changed');
          if (undoes) {
            this.runOf(ask.run).refusals += 1;
            return replayed(call);
          }
        }
        return this.refuse(ask, rewound, { kind: 'idempotency_conflict', rule: 'idempotency_conflict' });
      }
      const finished = call.state === 'succeeded' || call.state === 'failed' || call.state === 'unknown';
      if (finished && (call.digest === ask.digest || undoes) && (!call.lost || call.token === ask.token)) {
        return replayed(call);
      }
      if (call.state === 'claimed' && isWrite(call.class)) {
        if (this.policyVersion !== ask.policyVersion)
          return { answer: 'stale', policyVersion: this.policyVersion };
        const elsewhere = call.account !== ask.account;
        const barred =
          (this.mode === 'killed' && !past) ||
          elsewhere ||
          ask.denied ||
          fenced ||
          (!own && !followUp) ||
          call.attempts >= 8 ||
          n + ask.leaseMs > call.firstClaimedAt + DAY;
        const said: Said = {
          answer: 'recover',
          lookupOnly: barred,
          attempt: call.attempts + call.looks + 1,
          epoch: this.epoch,
          quietMs: elsewhere ? null : n - call.sentUntil,
        };
        const held = this.attempts.get(call.token);
        if (held) {
          this.attempts.delete(call.token);
          this.attempts.set(ask.token, held);
        }
        Object.assign(call, {
          token: ask.token,
          said,
          attempts: call.attempts + (barred ? 0 : 1),
          looks: call.looks + (barred ? 1 : 0),
          leaseUntil: n + ask.leaseMs,
          sentUntil: barred ? call.sentUntil : n + ask.leaseMs,
          account: barred ? call.account : ask.account,
          host: ask.host,
        });
        this.last = n;
        return said;
      }
      passesSlotOn = call.state === 'claimed';
      attempt = call.digest === ask.digest || undoes ? call.attempts + 1 : 1;
    }

    if (rewound)
      return this.refuse(ask, true, { kind: 'frozen', rule: 'ledger_rewound', retryAfterMs: 30_000 });
    if (this.mode === 'killed' && !past)
      return this.refuse(ask, false, { kind: 'killed', rule: 'tenant_killed' });
    if (fenced) return this.refuse(ask, false, { kind: 'killed', rule: 'run_fenced' });
    if (!call && run && run.acceptedAt <= n - HORIZON)
      return this.refuse(ask, false, { kind: 'failed', rule: 'key_expired' });
    if (undoes && followUp?.kind !== 'undo')
      return this.refuse(ask, false, { kind: 'denied', rule: 'undo_not_entered' });
    if (undoes && this.calls.get(`${ask.run}|${ask.undoOf}`)?.state !== 'succeeded')
      return this.refuse(ask, false, { kind: 'denied', rule: 'undo_not_due' });
    if (this.policyVersion !== ask.policyVersion)
      return { answer: 'stale', policyVersion: this.policyVersion };
    if (ask.denied && !undoes) return this.refuse(ask, false, { kind: 'denied', rule: 'no-mail' });
    if (!run) return this.refuse(ask, false, { kind: 'denied', rule: 'run_not_entered' });
    const retries = followUp?.kind === 'retry' && call !== undefined;
    if (!undoes && !retries && !ask.denied) {
      if (run.closed) return this.refuse(ask, false, { kind: 'denied', rule: 'run_closed' });
      if (!own) return this.refuse(ask, false, { kind: 'denied', rule: 'run_not_entered' });
    }
    if (run.undone && !undoes) return this.refuse(ask, false, { kind: 'denied', rule: 'run_undone' });
    if (ask.denied || (call && attempt > 8)) {
      if (passesSlotOn) this.inflight -= 1;
      const ended = call ?? this.#claim(ask, n, 0, undefined);
      const rule = ask.denied ? 'no-mail' : 'attempts_exhausted';
      Object.assign(ended, { state: 'failed', lost: false, token: ask.token, rule });
      run.refusals += 1;
      this.last = n;
      if (undoes) {
        this.review(key, ended, 'undo_failed');
        return replayed(ended);
      }
      this.letters.push({
        run: ask.run,
        path: ask.path,
        class: ended.class,
        rule: 'attempts_exhausted',
        state: 'dead',
      });
      if (!call) throw new Error('nothing can be used up that was never tried');
      return { answer: 'refused', kind: 'failed', rule: 'attempts_exhausted', value: 8, used: call.attempts };
    }
    if (!passesSlotOn && !undoes && this.inflight >= this.limits.callsInFlight) {
      const why = { value: this.limits.callsInFlight, used: this.inflight, retryAfterMs: 500 };
      return this.refuse(ask, false, { kind: 'throttled', rule: 'calls_in_flight', ...why });
    }
    const used = this.days.get(this.today) ?? 0;
    if (ask.toolCalls > 0 && used + ask.toolCalls > this.limits.toolCallsPerDay) {
      // What asks for more than a whole day has never frees by itself.
      const frees = ask.toolCalls <= this.limits.toolCallsPerDay;
      const why = {
        value: this.limits.toolCallsPerDay,
        used,
        ...(frees && { retryAfterMs: (this.today + 1) * DAY - n }),
      };
      return this.refuse(ask, false, { kind: 'throttled', rule: 'tool_calls_per_day', ...why });
    }
    if (ask.steps > 0 && run.steps + ask.steps > this.limits.perRunSteps) {
      const why = { value: this.limits.perRunSteps, used: run.steps };
      return this.refuse(ask, false, { kind: 'budget_exceeded', rule: 'per_run_steps', ...why });
    }

    const said: Said = { answer: 'admitted', attempt, epoch: this.epoch };
    this.calls.set(key, { ...this.#claim(ask, n, attempt, call), said });
    const cost = { toolCalls: ask.toolCalls, microUsd: ask.microUsd };
    this.attempts.set(ask.token, { ...cost, day: this.today, charged: cost, true: false });
    if (!passesSlotOn) this.inflight += 1;
    this.charge(ask.run, this.today, cost);
    run.steps += ask.steps;
    this.last = n;
    return said;
  }

  #claim(ask: Ask, n: number, attempts: number, before: Call | undefined): Call {
    const claim: Call = {
      firstClaimedAt: before?.firstClaimedAt ?? n,
      digest: ask.digest,
      class: ask.class,
      state: 'claimed',
      lost: false,
      token: ask.token,
      said: { answer: 'admitted' },
      attempts,
      looks: 0,
      leaseUntil: n + ask.leaseMs,
      sentUntil: n + ask.leaseMs,
      account: ask.account,
      host: ask.host,
      order: before?.order ?? (this.#claims += 1),
      undoOf: ask.undoOf,
      review: before?.review ?? null,
      steps: ask.steps,
      rule: undefined,
    };
    if (!before) this.calls.set(`${ask.run}|${ask.path}`, claim);
    return claim;
  }
}

const replayed = (call: Call): Said => ({
  answer: 'replayed',
  state: call.state,
  reviewed: call.review !== null,
  ...(call.rule !== undefined && { rule: call.rule }),
});
