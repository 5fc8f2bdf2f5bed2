import { canonicalJson, outsideKey } from '../contracts/digest';
import type { CallClass } from '../contracts/ledger';
import type { TenantStore } from '../contracts/ports';
import type { CallRow } from '../contracts/rows';
import type { Refusal } from '../contracts/refusal';
import type { Resolution, ReviewKind, ReviewRow } from '../contracts/reviews';
import { entryConditions, newest, type NewestOf } from './newest';
import type { TenantSession } from './session';
import { callsSql } from './sql';
import { storable } from './storable';

interface Row {
  readonly review_no: string;
  readonly run_id: string;
  readonly path: string;
  readonly action: string;
  readonly class: CallClass;
  readonly system: string | null;
  readonly kind: ReviewKind;
  readonly refusal: Refusal;
  readonly opened: string;
  readonly resolved: string | null;
  readonly resolution: Resolution | null;
  readonly actor: string | null;
  readonly note: string | null;
}

interface CallColumns {
  readonly path: string;
  readonly action: string;
  readonly digest: string;
  readonly class: CallClass;
  readonly state: CallRow['state'];
  readonly reversible: CallRow['reversible'];
  readonly undo_of: string | null;
  readonly attempts: number;
  readonly review_no: string | null;
  readonly refusal: Refusal | null;
}

const CALL = callsSql('call_row', 4);
const RESOLVE = callsSql('resolve_review', 12, 'kind');
const REVIEWS: NewestOf = {
  from: 'bulkhead.reviews',
  columns: `review_no, run_id, path, action, class, system, kind, refusal, bulkhead.iso(opened_at) as opened,
    bulkhead.iso(resolved_at) as resolved, resolution, actor, note`,
  order: 'review_no desc',
};

/** Calls whose truth is not known, and what people say of them. See docs/ledger.md. */
export function reviewsOf(
  session: TenantSession,
): Pick<TenantStore, 'call' | 'reviews' | 'review' | 'resolveReview'> {
  const { tenantId, environment } = session.scope;

  const review = async (reviewNo: number): Promise<ReviewRow | undefined> => {
    const [row] = await newest<Row>(session, REVIEWS, { limit: 1 }, [['review_no = ?', reviewNo]]);
    return row && reviewRow(row);
  };
  const reviewRow = (row: Row): ReviewRow => ({
    reviewNo: Number(row.review_no),
    runId: row.run_id,
    path: row.path,
    action: row.action,
    callClass: row.class,
    system: row.system,
    kind: row.kind,
    refusal: row.refusal,
    idempotencyKey: outsideKey(tenantId, environment, row.run_id, row.path),
    openedAt: row.opened,
    resolvedAt: row.resolved,
    resolution: row.resolution,
    actor: row.actor,
    note: row.note,
  });

  return {
    review,

    async call(runId, path) {
      const [row] = await session.call<CallColumns>(CALL, [tenantId, environment, runId, path]);
      return row && callRow(row);
    },

    async reviews(page) {
      const conditions = entryConditions(page, 'review_no', 'resolved_at is null');
      return (await newest<Row>(session, REVIEWS, page, conditions)).map(reviewRow);
    },

    async resolveReview({ reviewNo, resolution, payload, payloadDigest, shown, actor, note }) {
      const [answer] = await session.call<{ kind: 'resolved' | 'already' | 'absent' }>(RESOLVE, [
        tenantId,
        environment,
        reviewNo,
        resolution,
        payload && JSON.stringify(payload),
        payloadDigest,
        JSON.stringify(shown?.facts ?? {}),
        JSON.stringify((shown?.records ?? []).filter(storable)),
        shown?.dataClasses ?? [],
        actor,
        note,
        canonicalJson({ note }),
      ]);
      if (!answer) throw new Error('resolve_review answered nothing');
      if (answer.kind === 'absent') return { kind: 'absent' };
      const row = await review(reviewNo);
      if (!row) throw new Error(`review ${reviewNo} was resolved and cannot be read`);
      return { kind: answer.kind, review: row };
    },
  };
}

function callRow(row: CallColumns): CallRow {
  return {
    path: row.path,
    action: row.action,
    digest: row.digest,
    callClass: row.class,
    state: row.state,
    reversible: row.reversible,
    undoOf: row.undo_of,
    attempts: row.attempts,
    reviewNo: row.review_no === null ? null : Number(row.review_no),
    refusal: row.refusal,
  };
}
