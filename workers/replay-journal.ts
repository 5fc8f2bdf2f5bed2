import { z } from 'zod';
import type { JournalEntry } from '../contracts/ledger';

/** What the journal tells of one path: how often it was let in, and every outcome and refusal, in order. */
export interface JournaledCall {
  readonly path: string;
  action: string;
  admitted: boolean;
  readonly outcomes: Outcome[];
  /** Refused at admission, asked of a person or kept as a suggestion: nothing was claimed by these. */
  readonly refused: { kind: string; rule: string }[];
}

/** How a claimed call stood from this entry on. */
export interface Outcome {
  readonly seq: number;
  /** `succeeded`, or the kind of its refusal. */
  readonly kind: string;
  readonly digest: string | null;
}

const Facts = z.looseObject({
  kind: z.string(),
  path: z.string().nullish(),
  action: z.string().nullish(),
  result: z.string().nullish(),
  refusal: z.string().nullish(),
  rule: z.string().nullish(),
  resolution: z.string().nullish(),
  applied: z.boolean().nullish(),
  payloadDigest: z.string().nullish(),
  doubt: z.string().nullish(),
  rules: z.array(z.string()).nullish(),
  terms: z.looseObject({ rules: z.array(z.string()) }).nullish(),
});
const Body = z.looseObject({ refusal: z.looseObject({ kind: z.string() }).nullish() });

/** Reads the entries of one run, by path. What says nothing of a call is passed over. */
export function journaledCalls(entries: readonly JournalEntry[]): Map<string, JournaledCall> {
  const calls = new Map<string, JournaledCall>();
  for (const entry of entries) {
    const facts = Facts.parse(JSON.parse(entry.facts));
    if (typeof facts.path !== 'string') continue;
    const call = calls.get(facts.path) ?? {
      path: facts.path,
      action: facts.action ?? '-',
      admitted: false,
      outcomes: [],
      refused: [],
    };
    calls.set(facts.path, call);
    const outcome = outcomeOf(entry, facts, call);
    if (outcome) call.outcomes.push({ seq: entry.seq, ...outcome });
    if (facts.kind === 'admitted' || facts.kind === 'recovering' || facts.kind === 'restored')
      call.admitted = true;
    call.refused.push(...refusalsOf(facts));
  }
  return calls;
}

/** What was answered instead of an admission. A request for approval is answered again and again by its one entry. */
function refusalsOf(facts: z.output<typeof Facts>): JournaledCall['refused'] {
  const by = (kind: string, rules: readonly string[] | null | undefined) =>
    (rules ?? []).map((rule) => ({ kind, rule }));
  switch (facts.kind) {
    case 'refused':
      return [{ kind: facts.refusal ?? '-', rule: facts.rule ?? '-' }];
    case 'approval_requested':
      return by('approval_required', facts.terms?.rules);
    case 'suggested':
      return by('suggested', facts.rules);
    default:
      return [];
  }
}

function outcomeOf(
  entry: JournalEntry,
  facts: z.output<typeof Facts>,
  call: JournaledCall,
): Omit<Outcome, 'seq'> | undefined {
  const digest = facts.payloadDigest ?? null;
  switch (facts.kind) {
    case 'settled':
    case 'reconciled':
    case 'restored': {
      if (facts.result === 'succeeded') return { kind: 'succeeded', digest };
      const refusal = Body.safeParse(JSON.parse(entry.body)).data?.refusal?.kind;
      // A restored call is as its history had it: what kind of refusal that was, the history alone says.
      return { kind: refusal ?? (facts.kind === 'restored' ? 'any' : 'failed'), digest };
    }
    case 'reaped':
      return { kind: facts.result === 'unknown' ? 'outcome_unknown' : 'failed', digest };
    case 'exhausted':
    case 'undo_denied':
      return { kind: facts.refusal ?? 'failed', digest };
    case 'reviewed':
      if (facts.applied === false) return undefined;
      if (facts.resolution === 'happened') return { kind: 'succeeded', digest };
      // Given up keeps the kind that it had; one that did not happen is open, and has no outcome until it is made again.
      return facts.resolution === 'abandon'
        ? { kind: call.outcomes.at(-1)?.kind ?? 'failed', digest }
        : undefined;
    default:
      return undefined;
  }
}
