import type { Limits, NamedLimits, PerRun } from '../../contracts/documents';
import type { JournalEntry } from '../../contracts/ledger';

/** Of what is counted per day and per run. */
export interface Amounts {
  readonly toolCalls: number;
  readonly steps: number;
  readonly activeMs: number;
  readonly microUsd: number;
  readonly modelTokens: number;
  readonly highRiskWrites: number;
}
export const NOTHING: Amounts = {
  toolCalls: 0,
  steps: 0,
  activeMs: 0,
  microUsd: 0,
  modelTokens: 0,
  highRiskWrites: 0,
};

interface Quota {
  readonly limits: Pick<Limits, 'callsInFlight' | 'toolCallsPerDay'> & Partial<Limits>;
  readonly perRun: PerRun;
  readonly perAction: Readonly<Record<string, NamedLimits>>;
  readonly perAgent: Readonly<Record<string, NamedLimits>>;
}

/** Which part of the amounts a limit counts, and how many of it are one of the limit's units. */
const PER_DAY: readonly (readonly [keyof Amounts, keyof NamedLimits, number])[] = [
  ['toolCalls', 'toolCallsPerDay', 1],
  ['steps', 'stepsPerDay', 1],
  ['activeMs', 'activeSecondsPerDay', 1_000],
  ['microUsd', 'spendMicroUsdPerDay', 1],
  ['modelTokens', 'modelTokensPerDay', 1],
  ['highRiskWrites', 'highRiskWritesPerDay', 1],
];

const PARTS = Object.keys(NOTHING) as (keyof Amounts)[];

export const plus = (a: Amounts, b: Amounts): Amounts =>
  Object.fromEntries(PARTS.map((part) => [part, a[part] + b[part]])) as unknown as Amounts;

/** What a journal's facts say, each kind with the fields that move a counter. */
interface Facts {
  readonly kind: string;
  readonly run: string | null;
  readonly slot?: boolean;
  /** Of what `recover` has put back. */
  readonly what?: string;
  /** The state that it was in before. */
  readonly from?: string | null;
  readonly slots?: number;
  readonly mode?: string;
  readonly state?: string;
  readonly day?: number;
  readonly reserved?: Amounts;
  readonly charged?: Amounts | null;
  readonly metered?: readonly string[] | null;
  readonly dayUsed?: Amounts;
  readonly storedReserved?: number;
  readonly storedBytes?: number | null;
  readonly quota?: Quota;
  readonly epoch?: number;
  readonly policyVersion?: number;
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
  /** What each day has seen, by its number; zero days left out. */
  days: Record<number, Amounts>;
  /** The same of agents and actions that a quota names, and their calls in flight. */
  meters: Record<string, { inflight: number; days: Record<number, Amounts> }>;
  runs: Record<string, Amounts>;
  /** What payloads take, and what calls in flight may still store. */
  stored: { bytes: number; reserved: number };
  /** Exact, floods included: `rule/version/action/reason`. */
  refusals: Record<string, number>;
  mode: string;
  epoch: number;
  policyVersion: number;
  /** Admissions that a fence, version or limit in force at that moment forbade, or that nobody approved; ends of slots that nobody held. */
  violations: string[];
}

type Caps = { readonly [K in keyof Limits]?: Limits[K] | undefined };

/** Of `a`, and each of its parts below or at the caps that there are. */
const within = (a: Amounts, caps: Caps): boolean =>
  PER_DAY.every(([part, cap, unit]) => a[part] <= (caps[cap] ?? Infinity) * unit);

function add(to: Record<number, Amounts>, day: number, by: Amounts): Amounts {
  const sum = plus(to[day] ?? NOTHING, by);
  to[day] = sum;
  return sum;
}

/** Counts everything again from the journal alone, and judges each admission by what was in force before it. */
export function recount(entries: readonly JournalEntry[]): Recount {
  const state: Recount = {
    inflight: 0,
    days: {},
    meters: {},
    runs: {},
    stored: { bytes: 0, reserved: 0 },
    refusals: {},
    mode: 'normal',
    epoch: 0,
    policyVersion: 0,
    violations: [],
  };
  const open = new Set<string>();
  const held = new Map<string, readonly string[]>();
  const toStore = new Map<string, number>();
  /** Follow-ups that a workflow has entered, with their run. */
  const entered = new Map<number, string>();
  /** Requests for approval, by number. */
  const asked = new Map<number, Facts & { approved: boolean; used: boolean }>();
  let quota: Quota = {
    limits: { callsInFlight: 0, toolCallsPerDay: 0 },
    perRun: { steps: 0 },
    perAction: {},
    perAgent: {},
  };

  for (const entry of entries) {
    const facts = JSON.parse(entry.facts) as Facts;
    const violation = (what: string) => state.violations.push(`${entry.seq}: ${what}`);
    const meter = (name: string) => (state.meters[name] ??= { inflight: 0, days: {} });
    const charge = (by: Amounts | null | undefined): Amounts => {
      const run = plus(state.runs[facts.run ?? ''] ?? NOTHING, by ?? NOTHING);
      state.runs[facts.run ?? ''] = run;
      if (facts.day !== undefined && by) {
        add(state.days, facts.day, by);
        for (const name of facts.metered ?? []) add(meter(name).days, facts.day, by);
      }
      return run;
    };
    /** What a slot is held on: known of each open claim by its run and path. */
    const place = `${facts.run ?? ''} ${facts.path ?? ''}`;
    const vacate = () => {
      state.inflight -= 1;
      for (const name of held.get(place) ?? []) meter(name).inflight -= 1;
      held.delete(place);
      stores();
    };
    /** What the claim of this place may store, from now on. */
    const stores = (reserved = 0) => {
      state.stored.reserved += reserved - (toStore.get(place) ?? 0);
      toStore.set(place, reserved);
    };
    state.stored.bytes += facts.storedBytes ?? 0;
    switch (facts.kind) {
      case 'opened':
      case 'limits':
        quota = facts.quota ?? quota;
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
        const kept = facts.slot ? [] : (held.get(place) ?? []);
        if (!facts.slot) vacate();
        state.inflight += 1;
        held.set(place, facts.metered ?? []);
        stores(facts.storedReserved);
        for (const name of facts.metered ?? []) meter(name).inflight += 1;
        const run = charge(facts.reserved);
        if (facts.undoOf) break;
        if (
          (facts.storedReserved ?? 0) > 0 &&
          state.stored.bytes + state.stored.reserved > (quota.limits.storageBytes ?? Infinity)
        )
          violation('more storage than allowed');
        if (facts.slot && state.inflight > quota.limits.callsInFlight)
          violation('more calls in flight than allowed');
        const asks = PER_DAY.filter(([part]) => (facts.reserved?.[part] ?? 0) > 0).map(([, cap]) => cap);
        const caps = (of: Caps): Caps => Object.fromEntries(asks.map((cap) => [cap, of[cap]]));
        const day = facts.day ?? NaN;
        if (!within(state.days[day] ?? NOTHING, caps(quota.limits))) violation('more of a day than allowed');
        for (const name of facts.metered ?? []) {
          const [kind = '', id = ''] = name.split(/:(.*)/s);
          const of = (kind === 'action' ? quota.perAction : quota.perAgent)[id] ?? {};
          if (!within(meter(name).days[day] ?? NOTHING, caps(of)))
            violation(`more of a day than ${name} may`);
          if (!kept.includes(name) && meter(name).inflight > (of.callsInFlight ?? Infinity))
            violation(`more calls in flight than ${name} may`);
        }
        const { steps, seconds = Infinity, spendMicroUsd = Infinity } = quota.perRun;
        if ((facts.reserved?.steps ?? 0) > 0 && run.steps > steps) violation('more steps than allowed');
        if (run.activeMs > seconds * 1_000) violation('more active seconds of a run than allowed');
        if ((facts.reserved?.microUsd ?? 0) > 0 && run.microUsd > spendMicroUsd)
          violation('more spend of a run than allowed');
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
        if (facts.slot) vacate();
        if (state.inflight < 0) violation('a slot was given back that nobody held');
        charge(facts.charged);
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
        if (facts.from === 'claimed') {
          for (const name of held.get(place) ?? []) meter(name).inflight -= 1;
          held.delete(place);
        }
        if (state.inflight < 0) violation('a slot was given back that nobody held');
        if (facts.what === 'call') {
          charge(facts.charged);
          // Put back as claimed or as over: either way it has reserved nothing.
          stores();
        }
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
