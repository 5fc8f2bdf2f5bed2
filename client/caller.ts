import type { Client } from '@temporalio/client';
import type { Action } from '../contracts/action';
import { RunId } from '../contracts/ids';
import type { TenantStore } from '../contracts/ports';
import type { RunRow } from '../contracts/rows';
import { BulkheadError, reachDatabase, refusedBy } from './errors';
import type { VerifiedPrincipal } from './identity';
import { requireStorableText } from './json-bounds';

/** The actions of the app, loaded when first asked for; `undefined` where this process knows no app. */
export type KnownActions = () => Promise<ReadonlyMap<string, Action> | undefined>;

/** Somebody whose token was verified, with what that opens. */
export interface Caller {
  readonly who: VerifiedPrincipal;
  readonly store: TenantStore;
  readonly temporal: Client;
  readonly actions: KnownActions;
}

/** Whether one run is of the caller's workspaces; of lists the store is told these, and counts by them. */
const maySee = (who: VerifiedPrincipal, row: RunRow): boolean =>
  who.workspaces.some((workspace) => workspace === row.workspaceId);

/** The row of a run that the caller may see; `undefined` for another tenant's, another workspace's, and for none. */
export async function seenRun({ who, store }: Caller, runId: string): Promise<RunRow | undefined> {
  const id = RunId.safeParse(runId);
  const row = id.success ? await reachDatabase(() => store.run(id.data)) : undefined;
  return row && maySee(who, row) ? row : undefined;
}

/** The same words for a run of another tenant, of another workspace, and for none. */
export const unknownRun = (): BulkheadError =>
  new BulkheadError(
    'not_found',
    'there is no such run in your tenant and workspaces: `bulkhead run list` shows those there are',
    { reason: 'unknown_run' },
  );

const MAX_ACTOR = 100;

/** The role that lets a person decide what a run cannot: reviews, dead letters, rollbacks. */
export const OPERATOR_ROLE = 'operator';

/**
 * Who decided it, for the journal: the token's subject, always. A name given beside it is kept as what it is, somebody's word.
 * Throws `refused` for a token without the role `operator` (the service whose run is in doubt must not answer for it itself),
 * `invalid` for a name that is empty, long, or holds controls.
 */
export function actorOf({ who }: Caller, named: string | undefined): string {
  if (!who.roles.includes(OPERATOR_ROLE)) {
    throw refusedBy({
      kind: 'denied',
      origin: 'policy',
      rule: 'role_missing',
      rules: ['role_missing'],
      message: `this is for a person with the role ${OPERATOR_ROLE}, which the token does not have: bring one that has it (\`bulkhead token --role ${OPERATOR_ROLE}\` on a development stack)`,
    });
  }
  const { subject } = who.principal;
  if (named === undefined) return subject;
  if (!/^[^\p{Cc}\p{Cf}]{1,100}$/u.test(named) || named.trim() === '')
    throw new BulkheadError('invalid', `an actor is 1 to ${MAX_ACTOR} characters of plain text: shorten it`);
  return `${named} (${subject})`;
}

const MAX_NOTE = 1_000;

/** Checks a note for the journal. Throws `invalid` for one that is long or, where one is needed, empty. */
export function noteOf(note: string | undefined, { needed }: { needed: boolean }): string {
  const text = note?.trim() ?? '';
  if (needed && text === '')
    throw new BulkheadError('invalid', 'a note says how you know it: give one for the journal');
  if (text.length > MAX_NOTE)
    throw new BulkheadError('invalid', `a note has at most ${MAX_NOTE} characters: shorten it`);
  requireStorableText(text, 'the note');
  return text;
}

/** A number of a journal entry, by which reviews, approvals, dead letters and orders are called. Throws `not_found` by `absent`. */
export function entryNumber(candidate: number, absent: () => BulkheadError): number {
  if (!Number.isSafeInteger(candidate) || candidate < 1) throw absent();
  return candidate;
}
