/**
 * What docs/ledger.md promises of approvals, said once more in plain TypeScript: no SQL, nothing shared with the code under test.
 * Times are milliseconds since 1970. One run's writes; limits never bind.
 */

export interface Policy {
  readonly effect: 'allow' | 'approve' | 'suggest' | 'deny';
  readonly rules: readonly string[];
  readonly roles: readonly (readonly string[])[];
  readonly notRequester: boolean;
  readonly expiresAfterMs: number;
}
export interface Person {
  readonly principal: string;
  readonly roles: readonly string[];
}
export interface Ask {
  readonly path: string;
  readonly args: number;
  readonly schema: number;
  readonly policy: Policy;
  /** Decided under the policy before. */
  readonly stale: boolean;
}
export type Answer =
  | 'admitted'
  | 'resend'
  | 'look'
  | 'in_flight'
  | 'stale'
  | `replayed ${string}`
  | `refused ${string}`
  | 'request'
  | 'pending';
export type CallState = 'claimed' | 'succeeded' | 'failed' | 'open' | 'unknown' | 'suggested';

export interface Approval {
  readonly no: number;
  readonly path: string;
  readonly args: number;
  readonly schema: number;
  readonly kind: 'rule' | 'suggestion';
  readonly policy: Policy;
  readonly expires: number;
  state: 'pending' | 'approved' | 'denied' | 'expired' | 'superseded';
  approver: Person | null;
  used: boolean;
}
interface Call {
  args: number;
  state: CallState;
  sends: number;
  leaseUntil: number;
  firstSent: number;
  /** What it was let in with. */
  approval: Approval | null;
}
interface Suggestion {
  readonly args: number;
  readonly schema: number;
  readonly policy: Policy;
  approval: Approval | null;
}

export const LEASE = 10_000;
const KEY_VALID = 86_400_000;
export const REQUESTER = 'user:u-1';

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
/** Whether this person may decide what such a policy asks. */
export const entitled = (policy: Policy, { principal, roles }: Person): boolean =>
  policy.roles.length > 0 &&
  policy.roles.every((list) => roles.some((role) => list.includes(role))) &&
  !(policy.notRequester && principal === REQUESTER);

export class ApprovalModel {
  readonly calls = new Map<string, Call>();
  readonly approvals: Approval[] = [];
  readonly suggestions = new Map<string, Suggestion>();
  fenced = false;
  killed = false;

  constructor(public now: number) {}

  /** What the ledger has to answer; moves the model as it does. `made` numbers a request that this makes. */
  ask(ask: Ask, made: () => number): Answer {
    const { path, args, policy } = ask;
    const call = this.calls.get(path);
    if (call) {
      if (call.state === 'claimed' && this.now < call.leaseUntil) return 'in_flight';
      if (call.args !== args) {
        if (call.state === 'claimed') call.state = 'unknown';
        return 'refused idempotency_conflict';
      }
      if (call.state === 'claimed') return this.#takeOver(call, ask);
      if (call.state !== 'open') return `replayed ${call.state}`;
    }
    if (this.killed) return 'refused tenant_killed';
    if (this.fenced) return 'refused run_fenced';
    if (ask.stale) return 'stale';
    if (policy.effect === 'deny') return 'refused no-mail';
    if (call && call.sends >= 8) {
      call.state = 'failed';
      return 'refused attempts_exhausted';
    }
    let approval: Approval | null = null;
    if (policy.effect === 'approve' || policy.effect === 'suggest') {
      approval = this.#passing(ask, call);
      if (!approval) return policy.effect === 'suggest' ? this.#suggest(ask, call) : this.#wait(ask, made);
      approval.used = true;
    }
    this.calls.set(path, {
      args,
      state: 'claimed',
      sends: (call?.sends ?? 0) + 1,
      leaseUntil: this.now + LEASE,
      firstSent: Math.min(call?.firstSent ?? Infinity, this.now),
      approval: approval ?? call?.approval ?? null,
    });
    return 'admitted';
  }

  #takeOver(call: Call, ask: Ask): Answer {
    if (ask.stale) return 'stale';
    const { effect } = ask.policy;
    const passes =
      effect === 'approve'
        ? call.approval !== null && this.#passing(ask, call) === call.approval
        : effect === 'allow';
    const keyed = this.now + LEASE <= call.firstSent + KEY_VALID;
    call.leaseUntil = this.now + LEASE;
    if (this.killed || this.fenced || !passes || !keyed || call.sends >= 8) return 'look';
    call.sends += 1;
    return 'resend';
  }

  #of(path: string): Approval[] {
    return this.approvals.filter((each) => each.path === path && each.state !== 'superseded');
  }
  /** Asked for in the same words, under the same schema, by the same rules. */
  #fits(approval: Approval, { args, schema, policy }: Ask): boolean {
    const kind = policy.effect === 'suggest' ? 'suggestion' : 'rule';
    return (
      approval.kind === kind &&
      approval.args === args &&
      approval.schema === schema &&
      same([...approval.policy.rules].sort(), [...policy.rules].sort())
    );
  }
  #refusedBefore({ path, args }: Ask): boolean {
    return this.#of(path).some((each) => each.state === 'denied' && each.args === args);
  }
  #over(approval: Approval): boolean {
    return approval.state === 'expired' || (!approval.used && approval.expires <= this.now);
  }

  /** The approval that lets it in: one given, in time, or the one that it was let in with before. */
  #passing(ask: Ask, call: Call | undefined): Approval | null {
    if (this.#refusedBefore(ask)) return null;
    const fitting = this.#of(ask.path).filter((each) => this.#fits(each, ask));
    // One that was asked for later, and still is or is over, is what counts.
    const later = fitting.findLastIndex((each) => this.#over(each) || this.#stillAsks(each, ask));
    const passing = fitting.slice(later + 1).filter(({ state, used, approver }, index, all) => {
      const mine = !used || all[index] === call?.approval;
      return state === 'approved' && mine && approver !== null && entitled(ask.policy, approver);
    });
    return passing.at(-1) ?? null;
  }
  #stillAsks(approval: Approval, { policy }: Ask): boolean {
    const { roles, notRequester } = approval.policy;
    return approval.state === 'pending' && same([roles, notRequester], [policy.roles, policy.notRequester]);
  }

  #wait(ask: Ask, made: () => number): Answer {
    if (this.#refusedBefore(ask)) return 'refused approval_denied';
    const fitting = this.#of(ask.path).filter((each) => this.#fits(each, ask));
    const [newest] = fitting
      .filter((each) => this.#over(each) || this.#stillAsks(each, ask))
      .sort((a, b) => b.no - a.no);
    if (newest && this.#over(newest)) {
      newest.state = 'expired';
      return 'refused approval_expired';
    }
    if (newest) return 'pending';
    this.#supersede(ask.path);
    const { path, args, schema, policy } = ask;
    const expires = this.now + policy.expiresAfterMs;
    this.approvals.push({
      no: made(),
      path,
      args,
      schema,
      kind: 'rule',
      policy,
      expires,
      state: 'pending',
      approver: null,
      used: false,
    });
    return 'request';
  }

  #suggest({ path, args, schema, policy }: Ask, call: Call | undefined): Answer {
    this.#supersede(path);
    this.suggestions.set(path, { args, schema, policy, approval: null });
    const fresh = { args, sends: 0, leaseUntil: this.now, firstSent: Infinity, approval: null };
    this.calls.set(path, { ...(call ?? fresh), state: 'suggested' });
    return 'refused suggested';
  }

  #supersede(path: string): void {
    for (const each of this.#of(path))
      if (each.state === 'pending' || (each.state === 'approved' && !each.used)) each.state = 'superseded';
  }

  settle(path: string, result: CallState): void {
    const call = this.calls.get(path);
    if (call?.state === 'claimed') call.state = result;
  }

  decide(
    approval: Approval,
    person: Person,
    decision: 'approve' | 'deny',
  ): 'decided' | 'already' | 'refused' {
    if (approval.state === 'approved' || approval.state === 'denied') return 'already';
    if (approval.state !== 'pending') return 'refused';
    if (this.#over(approval)) {
      approval.state = 'expired';
      return 'refused';
    }
    const call = this.calls.get(approval.path);
    if (call && call.args === approval.args && call.state !== 'claimed' && call.state !== 'open')
      return 'refused';
    if (!entitled(approval.policy, person)) return 'refused';
    approval.state = decision === 'approve' ? 'approved' : 'denied';
    approval.approver = person;
    return 'decided';
  }

  promote(path: string, person: Person, made: () => number): 'ordered' | 'already' | 'refused' | 'absent' {
    const suggestion = this.suggestions.get(path);
    const call = this.calls.get(path);
    if (!suggestion) return 'absent';
    if (suggestion.approval) return 'already';
    const { args, schema, policy } = suggestion;
    const refused = this.#of(path).some((each) => each.state === 'denied' && each.args === args);
    if (this.killed || this.fenced || !call || call.state !== 'suggested' || call.args !== args || refused)
      return 'refused';
    if (!entitled(policy, person)) return 'refused';
    suggestion.approval = {
      no: made(),
      path,
      args,
      schema,
      kind: 'suggestion',
      policy,
      expires: this.now + policy.expiresAfterMs,
      state: 'approved',
      approver: person,
      used: false,
    };
    this.approvals.push(suggestion.approval);
    Object.assign(call, { state: 'open', sends: 0 });
    return 'ordered';
  }

  /** The follow-up of a promoted suggestion ends; without an outcome the call is a suggestion again. */
  leave(path: string): void {
    const call = this.calls.get(path);
    const suggestion = this.suggestions.get(path);
    if (call?.state !== 'open' || !suggestion || call.args !== suggestion.args) return;
    call.state = 'suggested';
    this.#supersede(path);
    suggestion.approval = null;
  }

  /** As a list shows it. */
  shown(approval: Approval): Approval['state'] {
    const open = approval.state === 'pending' || (approval.state === 'approved' && !approval.used);
    return open && this.#over(approval) ? 'expired' : approval.state;
  }
}
