import type { JournalEntry } from '../../contracts/ledger';

/** What a journal's facts say, each kind with the fields that move a counter. */
interface Facts {
  readonly kind: string;
  readonly run: string | null;
  readonly slot?: boolean;
  /** Of what `recover` has put back. */
  readonly what?: string;
  readonly slots?: number;
  readonly mode?: string;
  readonly state?: string;
  readonly day?: number;
  readonly toolCalls?: number;
  readonly steps?: number;
  readonly microUsd?: number;
  readonly epoch?: number;
  readonly policyVersion?: number;
  readonly callsInFlight?: number;
  readonly toolCallsPerDay?: number;
  readonly perRunSteps?: number;
  readonly action?: string;
  readonly rule?: string;
  readonly refusal?: string;
  readonly reason?: string;
  readonly count?: number;
  readonly temporalRun?: string;
  readonly followUp?: number | string | null;
  readonly undoOf?: string | null;
  readonly pastFence?: boolean;
  readonly path?: string;
  readonly digest?: string;
  readonly at?: string;
  readonly expires?: string;
  readonly effect?: string;
  readonly approval?: number | null;
  readonly decision?: string;
}

export interface Recount {
  inflight: number;
  /** Tool calls by UTC day number. */
  days: Record<number, number>;
  runs: Record<string, { steps: number; toolCalls: number; microUsd: number }>;
  /** Exact, floods included: `rule/version/action/reason`. */
  refusals: Record<string, number>;
  mode: string;
  epoch: number;
  policyVersion: number;
  /** Admissions that a fence, version or limit in force at that moment forbade, or that nobody approved; ends of slots that nobody held. */
  violations: string[];
}

/** Counts everything again from the journal alone, and judges each admission by what was in force before it. */
export function recount(entries: readonly JournalEntry[]): Recount {
  const state: Recount = {
    inflight: 0,
    days: {},
    runs: {},
    refusals: {},
    mode: 'normal',
    epoch: 0,
    policyVersion: 0,
    violations: [],
  };
  const open = new Set<string>();
  /** Follow-ups that a workflow has entered, with their run. */
  const entered = new Map<number, string>();
  /** Requests for approval, by number. */
  const asked = new Map<number, Facts & { approved: boolean; used: boolean }>();
  let limits = { callsInFlight: 0, toolCallsPerDay: 0, perRunSteps: 0 };

  for (const entry of entries) {
    const facts = JSON.parse(entry.facts) as Facts;
    const violation = (what: string) => state.violations.push(`${entry.seq}: ${what}`);
    const charge = () => {
      const run = (state.runs[facts.run ?? ''] ??= { steps: 0, toolCalls: 0, microUsd: 0 });
      run.steps += facts.steps ?? 0;
      run.toolCalls += facts.toolCalls ?? 0;
      run.microUsd += facts.microUsd ?? 0;
      if (facts.day !== undefined)
        state.days[facts.day] = (state.days[facts.day] ?? 0) + (facts.toolCalls ?? 0);
      return run;
    };
    switch (facts.kind) {
      case 'opened':
      case 'limits':
        limits = {
          callsInFlight: facts.callsInFlight ?? NaN,
          toolCallsPerDay: facts.toolCallsPerDay ?? NaN,
          perRunSteps: facts.perRunSteps ?? NaN,
        };
        state.policyVersion = facts.policyVersion ?? state.policyVersion;
        break;
      case 'policy':
        state.policyVersion = facts.policyVersion ?? NaN;
        break;
      case 'killed':
        state.mode = 'killed';
        state.epoch = facts.epoch ?? NaN;
        break;
      case 'released':
        state.mode = 'normal';
        break;
      case 'entered':
        open.add(facts.run ?? '');
        if (state.mode !== 'normal') violation('entered behind a fence');
        break;
      case 'accepted':
        if (state.mode !== 'normal') violation('accepted behind a fence');
        break;
      case 'left':
        open.delete(facts.run ?? '');
        // An undo that the run had begun goes on elsewhere, once it is entered there; a retry is nothing of the run's.
        for (const [followUp, run] of entered) if (run === facts.run) entered.delete(followUp);
        break;
      case 'follow_up_entered':
        entered.set(Number(facts.followUp), facts.run ?? '');
        break;
      case 'follow_up_left':
        entered.delete(Number(facts.followUp));
        break;
      case 'admitted': {
        if (state.mode !== 'normal' && !facts.pastFence) violation('admitted behind a fence');
        if (facts.pastFence && !facts.undoOf) violation('a forward call past a fence');
        if (facts.epoch !== state.epoch) violation('admitted in another epoch');
        if (facts.effect === 'approve' || facts.effect === 'suggest') {
          const approval = asked.get(facts.approval ?? NaN);
          if (!approval?.approved) violation('admitted and approved by nobody');
          else if (
            approval.run !== facts.run ||
            approval.path !== facts.path ||
            approval.digest !== facts.digest
          )
            violation('admitted with the approval of another call');
          else if (!approval.used && (facts.at ?? '') >= (approval.expires ?? ''))
            violation('admitted with an approval that was over');
          if (approval) approval.used = true;
        }
        if (facts.policyVersion !== state.policyVersion) violation('admitted under another policy version');
        if (
          typeof facts.followUp === 'number'
            ? entered.get(facts.followUp) !== facts.run
            : !open.has(facts.run ?? '')
        )
          violation('admitted to a run that is not open, and by no follow-up of it');
        if (facts.slot) state.inflight += 1;
        if (facts.slot && !facts.undoOf && state.inflight > limits.callsInFlight)
          violation('more calls in flight than allowed');
        const run = charge();
        if ((facts.toolCalls ?? 0) > 0 && (state.days[facts.day ?? NaN] ?? NaN) > limits.toolCallsPerDay) {
          violation('more tool calls than allowed');
        }
        if ((facts.steps ?? 0) > 0 && run.steps > limits.perRunSteps) violation('more steps than allowed');
        break;
      }
      case 'settled':
      case 'reaped':
      case 'late':
      case 'reconciled':
      case 'exhausted':
      case 'undo_denied':
      case 'reviewed':
      case 'suggested':
        if (facts.slot) state.inflight -= 1;
        if (state.inflight < 0) violation('a slot was given back that nobody held');
        if (!['reaped', 'exhausted', 'undo_denied', 'suggested'].includes(facts.kind)) charge();
        break;
      case 'approval_requested':
      case 'promoted':
        asked.set(entry.seq, { ...facts, approved: facts.kind === 'promoted', used: false });
        break;
      case 'approval_decided': {
        const approval = asked.get(facts.approval ?? NaN);
        if (approval) approval.approved = facts.decision === 'approve';
        break;
      }
      case 'restored':
        if (facts.what === 'fence') {
          state.mode = facts.mode ?? '';
          state.epoch = facts.epoch ?? NaN;
        }
        if (facts.what === 'run' && facts.temporalRun) open.add(facts.run ?? '');
        if (facts.what === 'follow_up' && facts.state === 'entered')
          entered.set(Number(facts.followUp), facts.run ?? '');
        if (facts.what === 'follow_up' && facts.state === 'done') entered.delete(Number(facts.followUp));
        state.inflight += facts.slots ?? 0;
        if (state.inflight < 0) violation('a slot was given back that nobody held');
        if (facts.what === 'call') charge();
        break;
      case 'refused':
      case 'refusals': {
        const key = [facts.rule, facts.policyVersion, facts.action, facts.refusal ?? facts.reason].join('/');
        state.refusals[key] = (state.refusals[key] ?? 0) + (facts.count ?? 1);
        break;
      }
    }
  }
  return state;
}
