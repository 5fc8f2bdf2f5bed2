import type { RunId, WorkspaceId } from './ids';
import type { RunState, StopReason } from './states';

/** What is asked of the lists of a tenant. All are the newest first. Types alone: safe in the sandbox. */

interface Listing {
  /** Rows of these workspaces alone, and `limit` counts only those; without it, of all that the tenant has. */
  readonly workspaces?: readonly WorkspaceId[];
  readonly limit: number;
}

/** A page of what is numbered by the journal: approvals, reviews, dead letters. */
export interface EntryPage extends Listing {
  /** Only what still waits for a person. */
  readonly open: boolean;
  readonly runId?: RunId;
  /** The number of the last one seen: the page goes on below it. */
  readonly before?: number;
}

/** A page of runs, by acceptance and, of one moment, by id. */
export interface RunPage extends Listing {
  /** The last run seen, or a moment (ISO): those accepted before it. */
  readonly before?: { readonly runId: RunId } | { readonly acceptedAt: string };
  readonly state?: RunState;
  readonly stopReason?: StopReason;
}
