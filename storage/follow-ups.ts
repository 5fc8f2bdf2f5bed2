import { canonicalJson } from '../contracts/digest';
import type { SignedEnvelope } from '../contracts/envelope';
import type { TenantStore } from '../contracts/ports';
import type { UndoOrder } from '../contracts/rows';
import type { Refusal } from '../contracts/refusal';
import type { FollowUp, UndoItem, UndoOutcome } from '../contracts/reviews';
import type { TenantSession } from './session';
import { callsSql } from './sql';

interface Row {
  readonly follow_up_no: string;
  readonly run_id: string;
  readonly kind: FollowUp['kind'];
  readonly path: string | null;
  readonly reason: FollowUp['reason'];
  readonly state: FollowUp['state'];
  readonly actor: string;
  readonly note: string;
  readonly wanted: string;
  readonly ended: string | null;
  readonly outcome: UndoOutcome | null;
  readonly signed: SignedEnvelope;
}

interface EntryRow {
  readonly kind: 'entered' | 'nothing' | 'refused';
  readonly follow_up_no: string;
  readonly path: string | null;
  readonly items: UndoItem[];
  readonly refusal: Refusal;
  readonly seq: string;
}

const ORDER = callsSql('order_undo', 6);
const BEGIN = callsSql('begin_undo', 4);
const ENTER = callsSql('enter_follow_up', 5);
const LEAVE = callsSql('leave_follow_up', 6, 'left');
const FOLLOW_UPS = `select f.follow_up_no, f.run_id, f.kind, f.path, f.reason, f.state, f.actor, f.note, bulkhead.iso(f.wanted_at) as wanted,
    bulkhead.iso(f.ended_at) as ended, f.outcome, a.signed
  from bulkhead.follow_ups f join bulkhead.run_acceptances a using (tenant_id, environment, run_id)
  where f.tenant_id = $1 and f.environment = $2`;

/** One follow-up and the envelope of its run, by number. Throws where there is none: only its own order has told the number. */
export function orderedOf(
  session: TenantSession,
): (followUpNo: number) => Promise<{ followUp: FollowUp; signed: SignedEnvelope }> {
  const { tenantId, environment } = session.scope;
  return async (followUpNo) => {
    const [row] = await session.read<Row>(`${FOLLOW_UPS} and f.follow_up_no = $3`, [
      tenantId,
      environment,
      followUpNo,
    ]);
    if (!row) throw new Error(`follow-up ${followUpNo} was ordered and cannot be read`);
    return { followUp: followUp(row), signed: row.signed };
  };
}

/** What is done to a run beside its own workflow: undoing its writes (promise T5), one call of it again. */
export function followUpsOf(
  session: TenantSession,
): Pick<TenantStore, 'orderUndo' | 'beginUndo' | 'enterFollowUp' | 'leaveFollowUp' | 'followUps'> {
  const { tenantId, environment } = session.scope;
  const ordered = orderedOf(session);

  return {
    async orderUndo({ runId, actor, note }) {
      const [answer] = await session.call<{ kind: UndoOrder['kind']; follow_up_no: string | null }>(ORDER, [
        tenantId,
        environment,
        runId,
        actor,
        note,
        canonicalJson({ note }),
      ]);
      if (!answer) throw new Error('order_undo answered nothing');
      return answer.kind === 'ordered' || answer.kind === 'already'
        ? { kind: answer.kind, ...(await ordered(Number(answer.follow_up_no))) }
        : { kind: answer.kind };
    },

    async beginUndo({ runId, temporalRunId }) {
      const [row] = await session.call<EntryRow>(BEGIN, [tenantId, environment, runId, temporalRunId]);
      if (!row) throw new Error('begin_undo answered nothing');
      return row.kind === 'entered'
        ? {
            kind: 'entered',
            followUpNo: Number(row.follow_up_no),
            items: row.items,
            seq: Number(row.seq),
          }
        : { kind: 'nothing' };
    },

    async enterFollowUp({ runId, followUpNo, temporalRunId }) {
      const [row] = await session.call<EntryRow>(ENTER, [
        tenantId,
        environment,
        runId,
        followUpNo,
        temporalRunId,
      ]);
      if (!row) throw new Error('enter_follow_up answered nothing');
      return row.kind === 'entered'
        ? { kind: 'entered', items: row.items, path: row.path, seq: Number(row.seq) }
        : { kind: 'refused', refusal: row.refusal };
    },

    async leaveFollowUp({ runId, followUpNo, temporalRunId, outcome }) {
      await session.call(LEAVE, [
        tenantId,
        environment,
        runId,
        followUpNo,
        temporalRunId,
        outcome && JSON.stringify(outcome),
      ]);
    },

    async followUps(runId) {
      const rows = await session.read<Row>(`${FOLLOW_UPS} and f.run_id = $3 order by f.follow_up_no desc`, [
        tenantId,
        environment,
        runId,
      ]);
      return rows.map(followUp);
    },
  };
}

function followUp(row: Row): FollowUp {
  return {
    followUpNo: Number(row.follow_up_no),
    runId: row.run_id,
    kind: row.kind,
    path: row.path,
    reason: row.reason,
    state: row.state,
    actor: row.actor,
    note: row.note,
    wantedAt: row.wanted,
    endedAt: row.ended,
    outcome: row.outcome,
  };
}
