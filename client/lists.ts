import { z } from 'zod';
import { RunId } from '../contracts/ids';
import type { EntryPage, RunPage } from '../contracts/lists';
import type { RunRow } from '../contracts/rows';
import type { RunState, StopReason } from '../contracts/states';
import { seenRun, unknownRun, type Caller } from './caller';
import { BulkheadError, reachDatabase } from './errors';

/** Which approvals, reviews or dead letters: those that still wait for a person, where `open` is not `false`. */
export interface EntryFilter {
  readonly open?: boolean;
  readonly runId?: string;
  /** 50 by default, and 500 at most. */
  readonly limit?: number;
  /** The number of the last one seen, to go on below it. */
  readonly before?: number;
}

/** Which runs. */
export interface RunFilter {
  readonly state?: RunState;
  readonly stopReason?: StopReason;
  /** 50 by default, and 500 at most. */
  readonly limit?: number;
  /** The id of the last run seen, to go on after it; or a time (ISO 8601), for those accepted before it. */
  readonly before?: string;
}

const MOST = 500;

/**
 * The page of a list that the caller may see: the store counts `limit` in its workspaces alone. Throws `invalid` for numbers that are
 * none, `not_found` for a run that the caller may not see.
 */
export async function entryPage(caller: Caller, filter: EntryFilter): Promise<EntryPage> {
  const { open = true, limit, runId, before } = filter;
  if (before !== undefined && !(Number.isSafeInteger(before) && before > 0))
    throw invalid('before', 'is the number of the last one seen, as the list shows it');
  const page = { open, ...listing(caller, limit), ...(before === undefined ? {} : { before }) };
  if (runId === undefined) return page;
  const run = await seenRun(caller, runId);
  if (!run) throw unknownRun();
  return { ...page, runId: run.runId };
}

/** Runs that the caller may see, the newest first. Throws `invalid` for a limit or a place that is none. */
export async function listRuns(caller: Caller, filter: RunFilter): Promise<RunRow[]> {
  const { limit, before, state, stopReason } = filter;
  const page = {
    ...listing(caller, limit),
    ...(before === undefined ? {} : { before: await placeOf(caller, before) }),
    ...(state === undefined ? {} : { state }),
    ...(stopReason === undefined ? {} : { stopReason }),
  };
  return reachDatabase(() => caller.store.runs(page));
}

function listing({ who }: Caller, limit = 50): Pick<EntryPage, 'workspaces' | 'limit'> {
  if (!Number.isSafeInteger(limit) || limit < 1)
    throw invalid('limit', `is a whole number from 1; a page has ${MOST} at most`);
  return { workspaces: who.workspaces, limit: Math.min(limit, MOST) };
}

const Moment = z.iso.datetime({ offset: true });

/** No id of a run reads as a time. */
async function placeOf(caller: Caller, before: string): Promise<NonNullable<RunPage['before']>> {
  const moment = Moment.safeParse(before);
  if (moment.success) return { acceptedAt: moment.data };
  const run = RunId.safeParse(before).success ? await seenRun(caller, before) : undefined;
  if (run) return { runId: run.runId };
  throw invalid('before', 'is the id of the last run seen, or a time like 2026-03-01T12:00:00Z');
}

const invalid = (name: string, what: string): BulkheadError =>
  new BulkheadError('invalid', `${name} ${what}: correct it, or leave it out`, { reason: `invalid_${name}` });
