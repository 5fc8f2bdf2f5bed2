import { undoPath, type CallAnswer } from '../contracts/calls';
import type { Envelope } from '../contracts/envelope';
import type { TenantStore } from '../contracts/ports';
import type { CallRow } from '../contracts/rows';
import { NOT_UNDONE } from '../contracts/reviews';
import { refusalOf } from './attempt';
import { callingFollowUp } from './call-context';
import { failure } from './failure';
import { isWrite } from './governed-call';
import { missing } from './rewound';
import { forwardCall, undoOf, type AskedCall } from './tool-call';
import { valueless, type ToolParts } from './tool';

/**
 * The activity behind the undo of one write (promise T5). The write's own outcome is known first: one whose attempt was lost
 * is recovered, one that nobody knows of waits for its review. Then `compensate` runs as a governed call with a path and a
 * key of its own, so that it is undone once, however often and by whomever it is asked.
 */
export function createUndoCall({ storage, calls, gateway }: ToolParts) {
  return async function undoCall(input: {
    followUpNo: number;
    path: string;
    seq: number;
  }): Promise<CallAnswer<null>> {
    const { path, seq } = input;
    const { scope, signed } = callingFollowUp(input.followUpNo);
    const { envelope } = signed;
    const store = storage.tenant(scope);
    let forward = await writeAt(store, envelope, input);
    const happened = forward.state !== 'failed' && forward.state !== 'open';
    if (happened && isLeft(forward, undefined)) return notUndone('not_undoable', seq);
    const asked = await calls.ofPath(store, envelope, input);
    if (happened && isLeft(forward, asked)) return notUndone('not_undoable', seq);
    if (forward.state === 'claimed') {
      // Waits until its lease is over, then finds out as its own next attempt would.
      await gateway.govern(forwardCall(asked));
      forward = await writeAt(store, envelope, input);
    }
    if (forward.state === 'claimed') throw failure('OutcomePending', `${path} is at work again`, 1_000);
    if (forward.state !== 'succeeded') return unhappened(forward, seq);
    const kept = await store.payload(envelope.rootRunId, path);
    const result =
      kept?.kind === 'tool' && kept.outcome === 'done' && !kept.lost ? { value: kept.result } : undefined;
    return ofTheUndo(path, valueless(await gateway.govern(undoOf(asked, forward, result))));
  };
}

async function writeAt(
  store: TenantStore,
  { rootRunId }: Envelope,
  { path, seq }: { path: string; seq: number },
): Promise<CallRow> {
  const row = await store.call(rootRunId, path);
  if (!row) throw await missing(store, { runId: rootRunId, path, seq }, `${path} is no call of this run`);
  if (!isWrite(row.callClass) || row.undoOf !== null)
    throw failure('ContractBroken', `${path} is no write of this run`);
  return row;
}

/**
 * Whether the write stays as it is: what it declared when it was made says so. An action that could undo once and cannot any
 * more is no such case: its undo fails, and a person reviews it.
 */
function isLeft({ reversible }: CallRow, asked: AskedCall | undefined): boolean {
  if (reversible === 'compensable') return false;
  return reversible !== 'reversible' || (asked?.action !== undefined && !asked.action.compensate);
}

/** A write that is not known to have happened: over without an effect, or a person has to say first. */
function unhappened({ path, refusal, reviewNo }: CallRow, seq: number): CallAnswer<null> {
  if (reviewNo === null) return notUndone('nothing_to_undo', seq);
  const why = refusal ?? refusalOf('outcome_unknown', 'platform', 'not_recorded', `${path} names no reason`);
  return { kind: why.kind, refusal: why, review: { no: reviewNo, wait: true }, seq };
}

/** Says that a review is of the undo itself: recovery from histories must not take that of the write for it. */
function ofTheUndo(path: string, answer: CallAnswer<null>): CallAnswer<null> {
  if (answer.kind === 'done' || !answer.review) return answer;
  return { ...answer, review: { ...answer.review, of: undoPath(path) } };
}

function notUndone(rule: keyof typeof NOT_UNDONE, seq: number): CallAnswer<null> {
  const refusal = refusalOf('failed', 'platform', rule, NOT_UNDONE[rule]);
  return { kind: refusal.kind, refusal, seq };
}
