import { setTimeout as delay } from 'node:timers/promises';
import type { SignedEnvelope } from '../contracts/envelope';
import type { RunId, TenantId } from '../contracts/ids';
import type { PlatformStore, SweepFollowUp, SweepRun } from '../contracts/platform-ports';
import type { PlatformSession } from './session';
import { callsSql } from './sql';
import { Round } from './tenant-by-tenant';

/** One sweep's worth: each is a transaction of its own, and the rest waits for the next. */
const LEASES_AT_ONCE = 1_000;

/**
 * What the platform does across the tenants of one environment. Lists come from narrow functions; every change is
 * made one tenant a transaction, under that tenant's lock, guarded on what the list showed.
 */
export function sweepOf(
  session: PlatformSession,
): Pick<
  PlatformStore,
  | 'controlVersions'
  | 'heartbeatHost'
  | 'acceptedNotStarted'
  | 'openRunsIdle'
  | 'slotsNotTaken'
  | 'queuedTooLong'
  | 'tendLines'
  | 'followUpsWaiting'
  | 'endLeasesOfDeadHosts'
  | 'purge'
  | 'reapCalls'
> {
  const { environment } = session;

  interface Row {
    readonly tenant_id: TenantId;
    readonly run_id: RunId;
    readonly workflow_id: string;
    readonly temporal_run_id: string | null;
    readonly signed: SignedEnvelope;
  }
  const sweepRun = (row: Row): SweepRun => ({
    tenantId: row.tenant_id,
    runId: row.run_id,
    workflowId: row.workflow_id,
    temporalRunId: row.temporal_run_id,
    signed: row.signed,
  });
  const sweepRuns = async (list: string, olderThanMs: number, limit: number): Promise<SweepRun[]> =>
    (await session.call<Row>(callsSql(list, 3), [environment, olderThanMs, limit])).map(sweepRun);

  return {
    async controlVersions() {
      const rows = await session.call<{
        tenant_id: TenantId;
        fence_epoch: string;
        control_version: string;
        mode: string;
      }>(callsSql('control_versions', 1), [environment]);
      return rows.map((row) => ({
        tenantId: row.tenant_id,
        fenceEpoch: Number(row.fence_epoch),
        controlVersion: Number(row.control_version),
        mode: row.mode,
      }));
    },

    async heartbeatHost({ hostId, pid, roles }) {
      await session.call(callsSql('heartbeat_host', 4), [environment, hostId, pid, roles]);
    },

    acceptedNotStarted: (olderThanMs, limit) => sweepRuns('accepted_not_started', olderThanMs, limit),
    openRunsIdle: (olderThanMs, limit) => sweepRuns('open_runs_idle', olderThanMs, limit),

    async slotsNotTaken(olderThanMs, limit) {
      const rows = await session.call<Row & { slot_at: string }>(callsSql('slots_not_taken', 3), [
        environment,
        olderThanMs,
        limit,
      ]);
      return rows.map((row) => ({ ...sweepRun(row), slotSince: row.slot_at }));
    },

    async queuedTooLong(limit) {
      const rows = await session.call<{ workflow_id: string }>(callsSql('queued_too_long', 2), [
        environment,
        limit,
      ]);
      return rows.map((row) => ({ workflowId: row.workflow_id }));
    },

    async tendLines(onSkipped) {
      const tenants = await session.call<{ tenant_id: TenantId; differs: boolean }>(
        callsSql('lines_to_tend', 1),
        [environment],
      );
      const handed: string[] = [];
      await new Round(onSkipped).each(tenants, async ({ tenant_id: tenant, differs }) => {
        const [row] = await session.call<{ handed: string[] }>(callsSql('tend_line', 3, 'handed'), [
          tenant,
          environment,
          differs,
        ]);
        handed.push(...(row?.handed ?? []));
      });
      return handed;
    },

    async followUpsWaiting(olderThanMs, limit) {
      const rows = await session.call<{
        tenant_id: TenantId;
        run_id: RunId;
        follow_up_no: string;
        kind: SweepFollowUp['kind'];
        signed: SignedEnvelope;
      }>(callsSql('follow_ups_waiting', 3), [environment, olderThanMs, limit]);
      return rows.map((row) => ({
        tenantId: row.tenant_id,
        runId: row.run_id,
        followUpNo: Number(row.follow_up_no),
        kind: row.kind,
        signed: row.signed,
      }));
    },

    async endLeasesOfDeadHosts(silentMs, onSkipped) {
      const held = await session.call<{
        tenant_id: TenantId;
        run_id: string;
        path: string;
        token: string;
        host_id: string;
      }>(callsSql('calls_of_dead_hosts', 3), [environment, silentMs, LEASES_AT_ONCE]);
      let ended = 0;
      await new Round(onSkipped).each(held, async (call) => {
        const [row] = await session.call<{ ended: boolean }>(callsSql('end_lease', 7, 'ended'), [
          call.tenant_id,
          environment,
          call.run_id,
          call.path,
          call.token,
          call.host_id,
          silentMs,
        ]);
        if (row?.ended) ended += 1;
      });
      return ended;
    },

    async purge(limit, goOn = () => false, onSkipped) {
      const round = new Round(onSkipped);
      let purged = 0;
      const portion = async (): Promise<boolean> => {
        const runs = await session.call<{ tenant_id: TenantId; run_id: string }>(
          callsSql('runs_expired', 3),
          [environment, limit, round.skipped],
        );
        let left = limit;
        await round.each(runs, async (run) => {
          if (left <= 0) return;
          const began = performance.now();
          const [row] = await session.call<{ purged: string }>(callsSql('purge_run', 4, 'purged'), [
            run.tenant_id,
            environment,
            run.run_id,
            left,
          ]);
          left -= Number(row?.purged ?? 0);
          // Its calls come in between: their row is free for half of the time at least.
          await delay(performance.now() - began);
        });
        purged += limit - left;
        return runs.length > 0 && !round.over;
      };
      while ((await portion()) && goOn());
      return purged;
    },

    async reapCalls(limit, onSkipped) {
      const round = new Round(onSkipped);
      const due = await session.call<{ tenant_id: TenantId; run_id: string; path: string; token: string }>(
        callsSql('calls_due', 2),
        [environment, limit],
      );
      let reaped = 0;
      await round.each(due, async (call) => {
        const [row] = await session.call<{ reaped: boolean }>(callsSql('reap_call', 5, 'reaped'), [
          call.tenant_id,
          environment,
          call.run_id,
          call.path,
          call.token,
        ]);
        if (row?.reaped) reaped += 1;
      });
      const floods = await session.call<{ tenant_id: TenantId }>(callsSql('floods_due', 2), [
        environment,
        limit,
      ]);
      await round.each(floods, async ({ tenant_id: tenant }) => {
        await session.call(callsSql('close_floods', 2, 'closed'), [tenant, environment]);
      });
      return reaped;
    },
  };
}
