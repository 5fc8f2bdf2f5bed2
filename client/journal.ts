import { z } from 'zod';
import { APPROVAL_RULES } from '../contracts/approvals';
import type { RunId } from '../contracts/ids';
import type { JournalEntry } from '../contracts/ledger';
import type { TenantStore } from '../contracts/ports';
import { Refusal } from '../contracts/refusal';
import { REFUSAL_ORIGINS, STOP_REASONS } from '../contracts/states';

/** Short pages: a long read would hold back the vacuum of a hot row. */
const PAGE = 500;

/** Every entry of a run, or of the tenant, oldest first, page by page. */
export async function* journalEntries(store: TenantStore, runId?: RunId): AsyncGenerator<JournalEntry> {
  for (let afterSeq = 0; ;) {
    const page = await store.journal({ afterSeq, limit: PAGE, ...(runId === undefined ? {} : { runId }) });
    yield* page;
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return;
    afterSeq = last.seq;
  }
}

/** The ledger's own part of a refused call's entry; docs/ledger.md has every kind. */
const RefusedFacts = z.looseObject({
  kind: z.enum(['refused', 'exhausted', 'undo_denied']),
  action: z.string().nullish(),
  origin: Refusal.shape.origin,
  refusal: Refusal.shape.kind,
  rule: z.string(),
  rules: z.array(z.string()).nullish(),
  policyVersion: z.int().nullish(),
  value: z.number().nullish(),
  used: z.number().nullish(),
});

/** The writer's part: the refusal's words, where it kept them. */
const Worded = z.looseObject({
  message: z.string().optional(),
  refusal: z.looseObject({ message: z.string() }).nullish(),
});

export interface RefusedCall {
  readonly action: string;
  readonly at: string;
  readonly refusal: Refusal;
}

/** A call that was let in and could not be believed or finished: its refusal is the writer's part of its settlement. */
const SettledFacts = z.looseObject({
  kind: z.literal('settled'),
  action: z.string().nullish(),
  result: z.enum(['failed', 'unknown']),
});
const SettledBody = z.looseObject({ refusal: Refusal });

/** What a person's decision, or nobody's, has made final: the ledger itself refuses it, and keeps no words. */
const DECIDED_BY_PEOPLE: ReadonlyMap<string, string> = new Map([
  [APPROVAL_RULES.denied, STOP_REASONS.approval_denied.means],
  [APPROVAL_RULES.expired, STOP_REASONS.approval_expired.means],
]);

/** The refusal that an entry records; `undefined` for an entry of another kind. */
export function refusalOf(entry: JournalEntry): RefusedCall | undefined {
  const facts = RefusedFacts.safeParse(JSON.parse(entry.facts));
  if (!facts.success) return settledRefusal(entry);
  const { action, origin, refusal: kind, rule, rules, policyVersion, value, used } = facts.data;
  const words = Worded.safeParse(JSON.parse(entry.body)).data;
  const message =
    words?.message ??
    words?.refusal?.message ??
    DECIDED_BY_PEOPLE.get(rule) ??
    `${kind} by ${REFUSAL_ORIGINS[origin]}: ${rule}`;
  const refusal: Refusal = {
    kind,
    origin,
    rule,
    rules: rules ?? [rule],
    message,
    ...(typeof policyVersion === 'number' ? { policyVersion } : {}),
    ...(typeof value === 'number' ? { value } : {}),
    ...(typeof used === 'number' ? { used } : {}),
  };
  return { action: action ?? 'run', at: entry.at, refusal };
}

function settledRefusal(entry: JournalEntry): RefusedCall | undefined {
  const facts = SettledFacts.safeParse(JSON.parse(entry.facts));
  const body = SettledBody.safeParse(JSON.parse(entry.body));
  if (!facts.success || !body.success) return undefined;
  return { action: facts.data.action ?? 'run', at: entry.at, refusal: body.data.refusal };
}

/** What was refused to a run, oldest first. Of a flood, the first ones of each minute. */
export async function refusalsOf(store: TenantStore, runId: RunId): Promise<RefusedCall[]> {
  const found: RefusedCall[] = [];
  for await (const entry of journalEntries(store, runId)) {
    const refused = refusalOf(entry);
    if (refused) found.push(refused);
  }
  return found;
}
