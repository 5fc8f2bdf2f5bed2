import type { AdmitRequest } from '../../contracts/ledger';
import { undoPath } from '../../contracts/calls';
import { RunId } from '../../contracts/ids';
import { decidedBy, digest, refusal, type LedgerTenant } from './harness';
import { DoubtModel } from './model-doubt';
import { isWrite, type Ask, type Said } from './model-words';
import { FREE, LEASE, PATHS, said, START, type Command } from './trial-words';

/** The hosts of a trial: runs that are started, attempts that ask, send and report. */
export class Workers {
  readonly model: DoubtModel;
  protected readonly attempts: {
    request: AdmitRequest;
    ask: Ask;
    sent: boolean;
    settled: boolean;
    lookupOnly: boolean;
    deadline: number;
  }[] = [];
  protected readonly runs: string[] = [];
  /** Write positions that something was sent for, and how often without the remote's key making it harmless. */
  protected readonly blindSends = new Map<string, number>();
  protected version = 1;
  protected started = 0;
  protected ahead = 1_000_000;
  /** The workers' own clock, which never steps back. */
  protected elapsed = 0;

  protected constructor(
    readonly tenant: LedgerTenant,
    limits: DoubtModel['limits'],
  ) {
    this.model = new DoubtModel(START, limits);
  }

  protected async ask(command: Extract<Command, { do: 'ask' }>): Promise<void> {
    const known = PATHS[command.path] ?? PATHS[0]!;
    const { class: callClass, action } = known;
    const followUp = command.followUp === null ? undefined : this.model.followUps.at(-1 - command.followUp);
    const run = followUp?.run ?? this.runs[command.slot] ?? '';
    const undoOf = command.undo && isWrite(callClass) ? known.path : null;
    const path = undoOf === null ? known.path : undoPath(undoOf);
    const microUsd = callClass === 'model' ? command.microUsd : 0;
    const reserve =
      undoOf === null
        ? { toolCalls: command.toolCalls, steps: command.steps, microUsd, modelTokens: 0 }
        : FREE;
    const own = followUp && this.workflow(followUp.run, this.model.followUps.indexOf(followUp));
    const workflow = command.stranger ? 'reset' : (own ?? `${run}/1`);
    const host = `${this.tenant.tenantId}-${command.host}`;
    const ahead = command.ahead ? (this.ahead += 1_000_000) : 0;
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
      decidedBy: decidedBy(command.stale ? this.version - 1 : this.version),
      verdict: command.denied ? { effect: 'deny', refusal: refusal() } : { effect: 'allow', rules: ['all'] },
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
    const said = await this.admit(request, ask);
    if (said.answer === 'admitted' || said.answer === 'recover') {
      this.attempts.push({
        request,
        ask,
        sent: false,
        settled: false,
        lookupOnly: said.lookupOnly ?? false,
        deadline: this.elapsed + LEASE,
      });
    }
  }

  protected async askAgain(command: Extract<Command, { do: 'ask again' }>): Promise<void> {
    const known = this.attempt(command.attempt);
    if (known) await this.admit(known.request, known.ask);
  }

  protected send(command: Extract<Command, { do: 'send' }>): void {
    const known = this.attempt(command.attempt);
    // An honest worker sends once, before its deadline by its own clock, and never after it has reported.
    if (!known || known.lookupOnly || known.sent || known.settled || this.elapsed >= known.deadline) return;
    known.sent = true;
    const key = `${known.ask.run}|${known.ask.path}`;
    this.blindSends.set(key, (this.blindSends.get(key) ?? 0) + 1);
  }

  protected async settle(command: Extract<Command, { do: 'settle' }>): Promise<void> {
    const known = this.attempt(command.attempt);
    if (!known) return;
    const { ask, request } = known;
    // An honest worker says `open` only where nothing was ever sent for this key.
    const wasSent = this.blindSends.has(`${ask.run}|${ask.path}`);
    const result = command.result === 'open' && wasSent ? 'unknown' : command.result;
    if (result === 'succeeded' && !known.lookupOnly) this.send({ do: 'send', attempt: command.attempt });
    known.settled = true;
    const charge =
      ask.undoOf === null
        ? { toolCalls: command.toolCalls, microUsd: command.microUsd, modelTokens: 0 }
        : { toolCalls: 0 as const, microUsd: 0, modelTokens: 0 };
    const doubt = result === 'succeeded' ? 'none' : command.doubt;
    const expected = this.model.settle(ask.run, ask.path, ask.token, result, charge, doubt);
    const why = doubt === 'none' ? null : refusal({ kind: doubt, rule: doubt });
    const { answer } = await this.tenant.store.settle(
      this.tenant.settlement(request, { result, charge, refusal: why }),
    );
    expect(answer).toBe(expected);
  }

  protected async admit(request: AdmitRequest, ask: Ask): Promise<Said> {
    const expected = this.model.admit(ask);
    this.model.asked.set(ask.token, `${ask.run}|${ask.path}`);
    const answer = await this.tenant.store.admit(request);
    expect(said(answer)).toEqual(expected);
    const mine = this.attempts.some((known) => known.ask.token === ask.token);
    const write = ask.class === 'write' || ask.class === 'high_risk_write';
    if (answer.answer === 'admitted' && write && !mine && this.blindSends.has(`${ask.run}|${ask.path}`)) {
      throw new Error(`${ask.path} was sent before and is admitted again, as if it had not been`);
    }
    return expected;
  }

  protected async start(slot: number): Promise<void> {
    const runId = RunId.parse(`r-${(this.started += 1)}`);
    const expected = this.model.start(runId);
    const { kind } = await this.tenant.store.acceptRun(this.tenant.acceptance(runId));
    expect(kind).toBe(expected ? 'accepted' : 'refused');
    if (!expected) return;
    this.runs[slot] = runId;
    const entry = { runId, temporalRunId: `${runId}/1`, previousTemporalRunId: null, generation: 0 };
    expect(await this.tenant.store.enterRun(entry)).toMatchObject({ kind: 'entered' });
  }

  /** Counted from the newest: most of what happens, happens to recent attempts. */
  protected attempt(back: number) {
    return this.attempts[this.attempts.length - 1 - back];
  }

  /** The workflow that does a follow-up: the run's own where the run has begun it, else one that is the follow-up's alone. */
  protected workflow(run: string, at: number): string {
    const workflow = this.model.followUps[at]?.workflow;
    return workflow ?? `${run}/follow-up/${at}`;
  }
}
