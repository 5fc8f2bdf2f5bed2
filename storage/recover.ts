import type { LedgerCall, RecoveryState, RecoveryStore, SeenHead } from '../contracts/recovery';
import type { TenantId } from '../contracts/ids';
import type { PlatformStore } from '../contracts/platform-ports';
import type { PlatformSession, TenantSession } from './session';
import { callsSql } from './sql';

interface HeadRow {
  readonly tenant_id: TenantId;
  readonly seq: string;
  readonly hash: string;
  readonly acknowledged: string;
}

const STATE = callsSql('recovery_state', 2, 'state');
const MARK = callsSql('mark_rewound', 6, 'marked');
const LOST_CALL = callsSql('mark_lost_call', 5, 'marked');
const CALLS = callsSql('recovery_calls', 3);
const BEGIN = callsSql('begin_recovery', 4);
const FENCE = callsSql('restore_fence', 9, 'restored');
const RUN = callsSql('restore_run', 11, 'restored');
const CALL = callsSql('restore_call', 7, 'restored');
const FOLLOW_UP = callsSql('restore_follow_up', 11, 'restored');
const FINISH = callsSql('finish_recovery', 5, 'seq');

/** Recovery of one tenant's ledger: see docs/recovery.md and 0011_recover.sql. */
export function recoveryOf(session: TenantSession): RecoveryStore {
  const { tenantId, environment } = session.scope;
  const ask = async <T>(sql: string, params: readonly unknown[]): Promise<T | undefined> => {
    const [row] = await session.call<Record<string, T>>(sql, [tenantId, environment, ...params]);
    return row && Object.values(row)[0];
  };
  const json = (value: unknown): string => JSON.stringify(value);

  return {
    state: async () => (await ask<RecoveryState | null>(STATE, [])) ?? undefined,
    markRewound: async ({ seq, hash, acknowledged, by }) =>
      (await ask<boolean>(MARK, [seq, hash, acknowledged, by])) ?? false,
    markLostCall: async ({ runId, path, seq }) =>
      (await ask<boolean>(LOST_CALL, [runId, path, seq])) ?? false,

    async calls(runId) {
      const rows = await session.call<
        Pick<LedgerCall, 'path' | 'state' | 'class' | 'action'> & { review_no: string | null }
      >(CALLS, [tenantId, environment, runId]);
      return rows.map(({ path, state, class: callClass, action, review_no: reviewNo }) => ({
        path,
        state,
        class: callClass,
        action,
        reviewNo: reviewNo === null ? null : Number(reviewNo),
      }));
    },

    async begin({ highestSeq, actor }) {
      await ask(BEGIN, [highestSeq, actor]);
    },

    restoreFence: async (state) =>
      (await ask<boolean>(FENCE, [
        state.fenceEpoch,
        state.mode,
        state.fencedAt,
        state.containedAt,
        state.drainedAt,
        state.reason,
        state.actor,
      ])) ?? false,

    restoreRun: async ({ signed, input, fenced, entered, firstStep, step, dataClasses }) =>
      (await ask<boolean>(RUN, [
        json(signed),
        json(input),
        fenced,
        entered?.temporalRunId ?? null,
        entered?.generation ?? 0,
        entered?.at ?? null,
        firstStep,
        json(step),
        dataClasses,
      ])) ?? false,

    restoreCall: async ({ runId, path, from, to, call }) =>
      (await ask<boolean>(CALL, [runId, path, from, to, json(call)])) ?? false,

    restoreFollowUp: async (followUp) =>
      (await ask<boolean>(FOLLOW_UP, [
        followUp.runId,
        followUp.followUpNo,
        followUp.kind,
        followUp.path,
        followUp.reason,
        followUp.state,
        followUp.temporalRunId,
        followUp.wantedAt,
        followUp.outcome && json(followUp.outcome),
      ])) ?? false,

    async finish({ actor, counts }) {
      return { seq: Number(await ask<string>(FINISH, [actor, json(counts), '{}'])) };
    },
  };
}

/** What the sweep keeps of each journal, and asks again (promise O8). */
export function headsOf(session: PlatformSession): Pick<PlatformStore, 'journalHeads' | 'lostHeads'> {
  const { environment } = session;
  const headOf = (row: HeadRow): SeenHead => ({
    tenantId: row.tenant_id,
    seq: Number(row.seq),
    hash: row.hash,
    acknowledged: Number(row.acknowledged),
  });
  return {
    async journalHeads() {
      return (await session.call<HeadRow>(callsSql('journal_heads', 1), [environment])).map(headOf);
    },

    async lostHeads(heads) {
      const rows = await session.call<HeadRow>(callsSql('lost_heads', 5), [
        environment,
        heads.map(({ tenantId }) => tenantId),
        heads.map(({ seq }) => seq),
        heads.map(({ hash }) => hash),
        heads.map(({ acknowledged }) => acknowledged),
      ]);
      return rows.map(headOf);
    },
  };
}
