import { Context } from '@temporalio/activity';
import type { CallAnswer } from '../contracts/calls';
import type { Checkpoint } from '../contracts/checkpoint';
import type { OpenHttp } from '../contracts/http-port';
import type { Admission } from '../contracts/ledger';
import type { CallContext } from '../contracts/rows';
import type { Leasing, SecretBroker } from '../contracts/secrets-ports';
import type { Refusal } from '../contracts/refusal';
import { DeadlinePassed } from './acting';
import { LEASE_MARGIN_MS, remaining, type Attempt } from './attempt';
import type { FenceWatch } from './fence-watch';
import { FREE, isWrite, type ActIo, type Destination } from './governed-call';
import { idempotencyKey } from './judge';
import { assertOwn } from './markers';
import { perform, recover, settleLost, type OpenSession } from './perform';
import { settleOpen, settleRefused } from './settle';

/** What an admitted call acts with. */
export interface ActingParts {
  readonly broker: SecretBroker;
  readonly openHttp: OpenHttp;
  readonly fence: FenceWatch;
  /** Called at the named places of each call; production passes them. */
  readonly checkpoint?: Checkpoint | undefined;
}

/** Where the call goes, and where else policy lets it be redirected; nowhere where nothing is said. */
interface Way {
  readonly destination: Destination | null;
  readonly mayGo?: ((url: URL) => boolean) | undefined;
}

/** Steps 4 to 7 of an admitted call, or the recovery of one whose last attempt was lost. */
export async function actAdmitted(
  parts: ActingParts,
  attempt: Attempt,
  admission: Extract<Admission, { answer: 'admitted' | 'recover' }>,
  { destination, mayGo }: Way,
  context: CallContext,
): Promise<CallAnswer<unknown>> {
  const { call } = attempt;
  const { abort, leave } = parts.fence.enter(attempt.envelope.tenantId, admission.epoch);
  const cancelled = Context.current().cancellationSignal;
  const cancel = (): void => abort.abort(cancelled.reason);
  if (cancelled.aborted) cancel();
  cancelled.addEventListener('abort', cancel);
  const timer = setTimeout(
    () => abort.abort(new DeadlinePassed('the time of the call is over')),
    remaining(attempt),
  );
  try {
    const leased = call.secret === null ? null : lend(parts, attempt, call.secret, admission, context);
    if (leased?.kind === 'refused') return await refuseLease(attempt, admission, leased.refusal);
    await attempt.checkpoint('leased');
    if (call.undoOf !== null) await attempt.checkpoint('before_undo');
    const openSession = sessions(parts, attempt, {
      epoch: admission.epoch,
      signal: abort.signal,
      authorization: leased ? () => leased.lease.authorization() : null,
      destination,
      mayGo,
      context,
    });
    if (admission.answer === 'recover') return await recover(attempt, admission, openSession);
    return await perform(attempt, openSession, { earlier: false, attemptNo: admission.attempt });
  } finally {
    clearTimeout(timer);
    cancelled.removeEventListener('abort', cancel);
    leave();
  }
}

/** The ways out of one admitted attempt: each ends with its own turn, all of them with the attempt. */
function sessions(
  parts: ActingParts,
  attempt: Attempt,
  granted: {
    epoch: number;
    signal: AbortSignal;
    authorization: (() => string) | null;
    context: CallContext;
  } & Way,
): OpenSession {
  const { call, envelope, path, store } = attempt;
  const { tenantId, environment } = envelope;
  const { signal, destination, mayGo } = granted;
  const key = idempotencyKey(envelope, path);
  return ({ readOnly }) => {
    const over = new AbortController();
    const end = (): void => over.abort(signal.reason);
    if (signal.aborted) end();
    signal.addEventListener('abort', end);
    const http = parts.openHttp({
      poolKey: `${tenantId} ${environment} ${call.system ?? 'none'}`,
      baseUrl: destination?.url ?? null,
      privateGranted: destination?.connection ?? false,
      // What may change something is never sent on, whatever policy says of the other place.
      ...(mayGo && call.callClass === 'read' ? { mayGo } : {}),
      authorization: granted.authorization,
      idempotencyKey: isWrite(call.callClass) ? key : null,
      readOnly,
      signal: over.signal,
      ...(parts.checkpoint ? { checkpoint: attempt.checkpoint } : {}),
      remainingMs: () => Math.max(1, remaining(attempt)),
      beforeSend: () => {
        over.signal.throwIfAborted();
        if (remaining(attempt) <= 0) {
          throw new DeadlinePassed('the time of the call is over; nothing was sent');
        }
        parts.fence.assertOpen(tenantId, granted.epoch);
      },
    });
    let foreign: Error | undefined;
    const io: ActIo = {
      http,
      fetch: http.fetch,
      baseUrl: destination?.url ?? null,
      knowledge: {
        search: async (query, limit) => {
          const found = await store.searchKnowledge(query, limit);
          try {
            for (const { marker } of found) assertOwn(envelope, marker, 'tenant', 'a passage that was found');
          } catch (error) {
            foreign = error as Error;
            throw error;
          }
          return found.map(({ documentId, title, text, score }) => ({ documentId, title, text, score }));
        },
      },
      idempotencyKey: key,
      signal,
      record: granted.context.record,
    };
    return {
      io,
      mayHaveApplied: http.mayHaveApplied,
      // Also of an action that has caught it: what it goes on with is still ambiguous.
      assertOwn: () => {
        if (foreign) throw foreign;
      },
      close: () => {
        signal.removeEventListener('abort', end);
        over.abort(new DeadlinePassed('the call is over; nothing was sent'));
      },
    };
  };
}

/** Step 4: the admission has recorded the lease; here it is opened, to end no later than the record says. */
function lend(
  { broker }: ActingParts,
  attempt: Attempt,
  capability: string,
  admission: { leaseId: string | null; epoch: number },
  { sealed }: CallContext,
): Leasing {
  const { scope } = attempt.store;
  return broker.lease({
    scope,
    capability,
    sealed,
    admission,
    ttlMs: remaining(attempt) + LEASE_MARGIN_MS,
  });
}

/** Without a credential nothing was sent by this attempt; what an earlier one may have sent stays unknown. */
async function refuseLease(
  attempt: Attempt,
  { answer }: { answer: 'admitted' | 'recover' },
  refusal: Refusal,
): Promise<CallAnswer<unknown>> {
  if (answer === 'recover') return await settleLost(attempt);
  if (refusal.kind === 'killed') return await settleOpen(attempt, refusal);
  return await settleRefused(attempt, 'failed', refusal, FREE);
}
