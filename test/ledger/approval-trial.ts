import { randomUUID } from 'node:crypto';
import type { RunId } from '../../contracts/ids';
import type { AdmitRequest, Admission } from '../../contracts/ledger';
import {
  ApprovalModel,
  entitled,
  LEASE,
  REQUESTER,
  type Answer,
  type Ask,
  type CallState,
  type Person,
  type Policy,
} from './approval-model';
import { refund } from './approving';
import { decidedBy, refusal, type LedgerTenant } from './harness';

export const PATHS = ['0.1', '0.2'] as const;
export const PEOPLE: readonly Person[] = [
  { principal: 'user:fay', roles: ['finance'] },
  { principal: 'user:lee', roles: ['finance', 'lead'] },
  { principal: 'user:sam', roles: ['support'] },
  { principal: REQUESTER, roles: ['finance', 'lead', 'support'] },
];
export const FIRST: Policy = {
  effect: 'approve',
  rules: ['large'],
  roles: [['finance']],
  notRequester: true,
  expiresAfterMs: 3_600_000,
};

export type Command =
  | { do: 'ask'; path: number; args: number; schema: number; stale: boolean }
  | { do: 'ask again' | 'approve' | 'leave' | 'kill' }
  | { do: 'settle'; path: number; result: Exclude<CallState, 'claimed' | 'suggested'> }
  | { do: 'retry'; path: number; ms: number }
  | { do: 'decide'; back: number; person: number; decision: 'approve' | 'deny' }
  | { do: 'promote'; path: number; person: number }
  | { do: 'publish'; change: Partial<Policy> }
  | { do: 'tick'; ms: number };

/** What a person said, as the ledger answered: kept apart from the model, for the witness. */
interface Word {
  readonly path: string;
  readonly args: number;
  readonly schema: number;
  readonly kind: 'approve' | 'suggest';
  readonly rules: string;
  readonly until: number;
  readonly person: Person;
  readonly yes: boolean;
  used: boolean;
}
const setOf = (rules: readonly string[]) => [...rules].sort().join();

/** One sequence on a run of its own: the ledger, the model, and a witness of who approved what. */
export class ApprovalTrial {
  readonly model: ApprovalModel;
  readonly #words: Word[] = [];
  /** What each request asked for, by number, and when it ends. */
  readonly #requests = new Map<number, Omit<Word, 'person' | 'yes' | 'used'>>();
  readonly #let_in = new Map<string, { ask: Ask; request: AdmitRequest; sends: number }>();
  readonly #followUps: { path: string; followUpNo: number }[] = [];
  #policy: Policy;
  #last: Ask | undefined;

  private constructor(
    readonly tenant: LedgerTenant,
    readonly runId: RunId,
    readonly clock: { now: number; version: number },
    readonly seen: Map<string, number>,
    effect: 'approve' | 'suggest',
  ) {
    this.#policy = { ...FIRST, effect };
    this.model = new ApprovalModel(clock.now);
  }

  static async open(
    tenant: LedgerTenant,
    clock: { now: number; version: number },
    seen: Map<string, number>,
    effect: 'approve' | 'suggest',
  ): Promise<ApprovalTrial> {
    await tenant.store.release({ reason: 'next', actor: 'op' });
    return new ApprovalTrial(tenant, await tenant.run(`r-${randomUUID()}`), clock, seen, effect);
  }

  async do(command: Command): Promise<void> {
    const { store } = this.tenant;
    switch (command.do) {
      case 'ask':
        this.#last = {
          path: PATHS[command.path] ?? '0.1',
          args: command.args,
          schema: command.schema,
          policy: this.#policy,
          stale: command.stale,
        };
        await this.#ask(this.#last);
        return;
      case 'ask again':
        if (this.#last) await this.#ask({ ...this.#last, policy: this.#policy, stale: false });
        return;
      case 'approve':
        // What most often happens, as one step.
        await this.do({ do: 'ask again' });
        await this.do(
          this.#policy.effect === 'suggest'
            ? { do: 'promote', path: this.#last?.path === PATHS[1] ? 1 : 0, person: 1 }
            : { do: 'decide', back: 0, person: 1, decision: 'approve' },
        );
        return this.do({ do: 'ask again' });
      case 'settle':
        return this.#settle(PATHS[command.path] ?? '0.1', command.result);
      case 'retry': {
        const path = PATHS[command.path] ?? '0.1';
        const known = this.#let_in.get(path);
        if (!known || this.model.calls.get(path)?.state !== 'claimed') return;
        await this.#settle(path, 'open');
        await this.#tick(command.ms);
        const refused = this.#words.some(
          ({ path: of, args, yes }) => !yes && of === path && args === known.ask.args,
        );
        const same = JSON.stringify(known.ask.policy) === JSON.stringify(this.#policy);
        const answer = await this.#ask({ ...known.ask, policy: this.#policy, stale: false });
        // The right retry always passes.
        if (same && !refused && !this.model.killed && !this.model.fenced && known.sends < 8)
          expect(answer).toBe('admitted');
        return;
      }
      case 'decide': {
        const approval = this.model.approvals.at(-1 - command.back);
        const person = PEOPLE[command.person];
        if (!approval || !person) return;
        const approver = { principal: person.principal, roles: person.roles };
        const said = await store.approvals.decide({
          approvalNo: approval.no,
          decision: command.decision,
          approver,
          note: '',
        });
        this.#count(`decide ${said.kind}`);
        expect(said.kind).toBe(this.model.decide(approval, person, command.decision));
        const request = this.#requests.get(approval.no);
        if (said.kind === 'decided' && request)
          this.#words.push({ ...request, person, yes: command.decision === 'approve', used: false });
        return;
      }
      case 'promote': {
        const path = PATHS[command.path] ?? '0.1';
        const person = PEOPLE[command.person] ?? PEOPLE[0]!;
        const said = await store.approvals.promote({
          runId: this.runId,
          path,
          approver: { ...person },
          note: '',
        });
        this.#count(`promote ${said.kind}`);
        const no = said.kind === 'ordered' ? said.approval.approvalNo : 0;
        expect(said.kind).toBe(this.model.promote(path, person, () => no));
        const suggested = this.model.suggestions.get(path);
        if (said.kind !== 'ordered' || !suggested) return;
        this.#words.push({
          ...this.#wordOf({ ...suggested, path, stale: false }),
          person,
          yes: true,
          used: false,
        });
        const { followUpNo } = said.followUp;
        await store.enterFollowUp({ runId: this.runId, followUpNo, temporalRunId: `f/${followUpNo}` });
        this.#followUps.push({ path, followUpNo });
        return;
      }
      case 'leave': {
        const followUp = this.#followUps.pop();
        if (!followUp) return;
        const { path, followUpNo } = followUp;
        const temporalRunId = `f/${followUpNo}`;
        await store.leaveFollowUp({ runId: this.runId, followUpNo, temporalRunId, outcome: null });
        this.model.leave(path);
        return;
      }
      case 'kill':
        await store.kill({ reason: 'x', actor: 'op' });
        await store.release({ reason: 'x', actor: 'op' });
        this.model.fenced = true;
        return;
      case 'publish':
        this.#policy = { ...this.#policy, ...command.change };
        return this.tenant.publish((this.clock.version += 1));
      case 'tick':
        return this.#tick(command.ms);
    }
  }

  /** The requests of the run are as the model has them. */
  async end(): Promise<void> {
    // Slots are the tenant's, and thousands of sequences share them.
    for (const path of PATHS) await this.#settle(path, 'failed');
    const rows = await this.tenant.store.approvals.list({ open: false, limit: 1_000, runId: this.runId });
    expect(
      rows.map(({ approvalNo, state, usedAt, approver }) => [approvalNo, state, usedAt !== null, approver]),
    ).toEqual(
      this.model.approvals
        .toReversed()
        .map((each) => [each.no, this.model.shown(each), each.used, each.approver?.principal ?? null]),
    );
    for (const [path, { state }] of this.model.calls)
      expect(await this.tenant.store.call(this.runId, path)).toMatchObject({ state });
  }

  async #ask(ask: Ask): Promise<Answer> {
    const request = this.#request(ask);
    const answer = await this.tenant.store.admit(request);
    const asked = answer.answer === 'refused' ? answer.approval?.no : undefined;
    const expected = this.model.ask(ask, () => asked ?? -1);
    const said = answerOf(answer, asked !== undefined && this.#requests.has(asked));
    this.#count(`${said} under ${ask.policy.effect}`);
    expect(said).toBe(expected);
    if (asked !== undefined && !this.#requests.has(asked)) this.#requests.set(asked, this.#wordOf(ask));
    if (said === 'admitted' || said === 'resend') {
      this.#witness(ask);
      this.#let_in.set(ask.path, { ask, request, sends: this.model.calls.get(ask.path)?.sends ?? 0 });
    } else if (said === 'look') this.#let_in.set(ask.path, { ask, request, sends: 8 });
    return said;
  }

  /** Whatever the model says: what is sent was approved by somebody who may, in time, in these words. */
  #witness({ path, args, schema, policy }: Ask): void {
    const { effect } = policy;
    if (effect === 'allow') return;
    const of = this.#words.filter((word) => word.path === path && word.args === args);
    expect(of.filter(({ yes }) => !yes)).toEqual([]);
    const good = of.find(
      (word) =>
        word.kind === effect &&
        word.schema === schema &&
        word.rules === setOf(policy.rules) &&
        entitled(policy, word.person) &&
        (word.used || this.clock.now < word.until),
    );
    expect(good).toBeDefined();
    if (good) good.used = true;
  }

  #wordOf({ path, args, schema, policy }: Ask): Omit<Word, 'person' | 'yes' | 'used'> {
    const kind = policy.effect === 'suggest' ? 'suggest' : 'approve';
    return {
      path,
      args,
      schema,
      kind,
      rules: setOf(policy.rules),
      until: this.clock.now + policy.expiresAfterMs,
    };
  }

  #request({ path, args, schema, policy, stale }: Ask): AdmitRequest {
    const { effect, ...terms } = policy;
    const change = {
      decidedBy: decidedBy(this.clock.version - Number(stale)),
      leaseMs: LEASE,
      callClass: 'write',
    } as const;
    const asks = effect === 'approve' || effect === 'suggest';
    const request = refund(this.tenant, this.runId, path, {
      args,
      schema: String(schema),
      effect: asks ? effect : 'approve',
      terms,
      change,
    });
    if (asks) return request;
    return {
      ...request,
      verdict: effect === 'allow' ? { effect, rules: ['all'] } : { effect, refusal: refusal() },
    };
  }

  async #settle(path: string, result: Exclude<CallState, 'claimed' | 'suggested'>): Promise<void> {
    const known = this.#let_in.get(path);
    if (!known || this.model.calls.get(path)?.state !== 'claimed') return;
    const settled = await this.tenant.store.settle(this.tenant.settlement(known.request, { result }));
    expect(settled.answer).toBe('settled');
    this.model.settle(path, result);
  }

  async #tick(ms: number): Promise<void> {
    this.clock.now += ms;
    this.model.now = this.clock.now;
    await this.tenant.world.setClock(new Date(this.clock.now));
  }

  #count(what: string): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + 1);
  }
}

function answerOf(answer: Admission, known: boolean): Answer {
  switch (answer.answer) {
    case 'recover':
      return answer.lookupOnly ? 'look' : 'resend';
    case 'replayed':
      return `replayed ${answer.outcome.state}`;
    case 'refused':
      if (answer.refusal.kind === 'approval_required') return known ? 'pending' : 'request';
      return `refused ${answer.refusal.kind === 'suggested' ? 'suggested' : answer.refusal.rule}`;
    default:
      return answer.answer;
  }
}
