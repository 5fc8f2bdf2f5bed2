import { setTimeout as delay } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { passCheckpoint, type Checkpoint, type CheckpointName } from '../contracts/checkpoint';
import type { RunId } from '../contracts/ids';
import type { Storage, TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import { STOP_REASONS } from '../contracts/states';
import type { FollowUpActivities, FollowUpEntered, RunActivities, ToldPace } from '../contracts/workflow-io';
import { callingFollowUp, callingRun } from './call-context';
import { failure } from './failure';
import { createLanes, type LaneParts } from './find-lane';
import { createLeaving, type StartFollowUp } from './leaving';
import type { Policies } from './policies';
import type { TellSlots } from './tell-slots';

/** Bounds of a run's loop that are settings of the platform, told to the run at entry so that its replay is stable. */
export interface RunBounds {
  readonly continueAsNewAfter: number;
  readonly maxWaitMs: number;
  readonly maxMisbehaviour: number;
  /** Absent: a model may repeat itself for ever. */
  readonly maxRepeats?: number;
  /** Absent: as many calls of a run are handed to its lane as its workflow asks for. */
  readonly callsAtOnce?: number;
  /** Absent: what is refused again and again goes as fast as it comes. */
  readonly refusalPace?: ToldPace;
  /** On people. Absent: the workflows' own, a week. */
  readonly maxReviewWaitMs?: number;
}

export interface LifecycleParts extends LaneParts {
  readonly storage: Storage;
  readonly policies: Policies;
  readonly bounds: RunBounds;
  /** Asks Temporal to cancel a workflow, which it cannot do to itself; harmless for one that was asked already. */
  readonly requestCancel: (workflowId: string) => Promise<void>;
  /** May fail: the sweep starts what nobody started. */
  readonly startFollowUp: StartFollowUp;
  readonly tellSlots: TellSlots;
  readonly checkpoint?: Checkpoint | undefined;
}

type Lifecycle = Pick<RunActivities, 'enterRun' | 'parkRun' | 'resumeRun' | 'leaveRun' | 'beginUndo'> &
  Pick<FollowUpActivities, 'enterFollowUp' | 'leaveFollowUp' | 'findLane'>;

const POLL_MS = 100;
/** How long the end of a run waits in its slot for calls that were cancelled, milliseconds. */
const PATIENCE_MS = 2_000;

/** How runs and follow-ups enter and leave. They run on the lifecycle queue, which no tenant's work can fill. */
export function createLifecycle(parts: LifecycleParts): Lifecycle {
  const { storage, bounds, requestCancel, startFollowUp, tellSlots } = parts;
  const leave = createLeaving(parts);
  const lanes = createLanes(parts);

  const pass = async (point: CheckpointName): Promise<void> => {
    const { tenantId, runId } = callingRun().signed.envelope;
    const { attempt } = Context.current().info;
    await (parts.checkpoint ?? passCheckpoint)(point, { tenantId, runId, path: '', action: '', attempt });
  };

  const followUpEntered = async (
    store: TenantStore,
    runId: RunId,
    of: { followUpNo: number; items: FollowUpEntered['items']; path: string | null; seq: number },
  ): Promise<FollowUpEntered> => {
    const action = of.path === null ? undefined : (await store.call(runId, of.path))?.action;
    const named = [...of.items.map((item) => item.action), ...(action === undefined ? [] : [action])];
    return {
      kind: 'entered',
      followUpNo: of.followUpNo,
      ...(await lanes.told(store, named)),
      maxWaitMs: bounds.maxWaitMs,
      items: of.items,
      path: of.path,
      ...(action !== undefined && { action }),
      seq: of.seq,
    };
  };

  return {
    findLane: lanes.findLane,

    async enterRun({ generation, previousTemporalRunId }) {
      const { scope, signed, temporalRunId } = callingRun();
      const { envelope } = signed;
      const store = storage.tenant(scope);
      if (generation > 0) await pass('before_continue');
      const { handed, ...entry } = await store.enterRun({
        runId: envelope.runId,
        temporalRunId,
        previousTemporalRunId,
        generation,
      });
      await tellSlots(handed);
      if (entry.kind === 'refused') {
        waitWhileRewound(entry.refusal);
        return entry;
      }
      if (entry.kind === 'queued') return entry;
      // Nothing was named that may be open.
      if (entry.kind === 'waits') throw failure('ContractBroken', 'a run that enters waits for nobody');
      if (generation > 0) await pass('after_continue');
      const agent = await store.agent(envelope.agentId, envelope.agentVersion);
      return {
        kind: 'entered',
        ...(await lanes.told(store, agent?.actions ?? [])),
        // What the tenant's quota leaves a run is the ledger's to say at each step, as it is by then.
        maxSteps: agent?.budget.steps ?? entry.maxSteps,
        ...bounds,
        ...(entry.firstStep > 0 && { firstStep: entry.firstStep }),
        ...(agent?.onFailure === 'undo' && { undoOnFailure: true }),
        parks: true,
        seq: entry.seq,
      };
    },

    async parkRun({ state }) {
      const { scope, signed, temporalRunId } = callingRun();
      const { runId } = signed.envelope;
      const { handed } = await storage.tenant(scope).parkRun({ runId, temporalRunId, state });
      await tellSlots(handed);
    },

    async resumeRun(wait) {
      const { scope, signed, temporalRunId } = callingRun();
      const { runId } = signed.envelope;
      const { handed, ...entry } = await storage.tenant(scope).enterRun({
        runId,
        temporalRunId,
        previousTemporalRunId: temporalRunId,
        generation: 0,
        ...(wait.state !== 'frozen' && { unlessOpen: wait }),
      });
      await tellSlots(handed);
      switch (entry.kind) {
        case 'queued':
        case 'waits':
          return entry;
        case 'entered':
          return { kind: 'goesOn', seq: entry.seq };
        case 'refused':
          waitWhileRewound(entry.refusal);
          return { kind: 'goesOn', seq: 0 };
      }
    },

    async leaveRun(ending) {
      const { scope, signed, temporalRunId } = callingRun();
      const { envelope } = signed;
      const store = storage.tenant(scope);
      await untilNoneClaimed(store, envelope.runId);
      const left = await leave(store, { ...envelope, temporalRunId }, ending);
      if (STOP_REASONS[left.stopReason].closing === 'Canceled') await requestCancel(envelope.workflowId);
      const { followUpNo } = left;
      if (followUpNo !== undefined) {
        // It is ordered for good by now; where Temporal is the trouble, the sweep starts it.
        await startFollowUp(signed, { kind: 'undo', followUpNo }).catch(() => undefined);
      }
      return { stopReason: left.stopReason };
    },

    async beginUndo() {
      const { scope, signed, temporalRunId } = callingRun();
      const { runId } = signed.envelope;
      const store = storage.tenant(scope);
      await untilNoneClaimed(store, runId);
      const begun = await store.beginUndo({ runId, temporalRunId });
      return begun.kind === 'nothing' ? begun : await followUpEntered(store, runId, { ...begun, path: null });
    },

    async enterFollowUp({ followUpNo }) {
      const { scope, signed, temporalRunId } = callingFollowUp(followUpNo);
      const { runId } = signed.envelope;
      const store = storage.tenant(scope);
      const entry = await store.enterFollowUp({ runId, followUpNo, temporalRunId });
      if (entry.kind === 'refused') {
        waitWhileRewound(entry.refusal);
        return entry;
      }
      return await followUpEntered(store, runId, { ...entry, followUpNo });
    },

    async leaveFollowUp({ followUpNo, outcome }) {
      const { scope, signed, temporalRunId } = callingFollowUp(followUpNo);
      const { runId } = signed.envelope;
      const store = storage.tenant(scope);
      await store.leaveFollowUp({ runId, followUpNo, temporalRunId, outcome });
      // Asked, for an earlier attempt of this may have ended it. A workflow that was reset has entered nothing: were it to
      // end as done, nobody would begin the follow-up again.
      const left = (await store.followUps(runId)).find((each) => each.followUpNo === followUpNo);
      if (left?.state !== 'done')
        throw failure(
          'NotEntered',
          `follow-up ${followUpNo} was not entered by this workflow, so it is not over; the sweep begins it again`,
        );
    },
  };
}

/**
 * A cancelled call goes on for a moment after its workflow has: no slot is free, nor a reason true, before. What takes longer,
 * as the lease of a host that died, is not waited for in place: these slots are all tenants'. Throws `Waiting` then.
 */
async function untilNoneClaimed(store: TenantStore, runId: RunId): Promise<void> {
  const patience = performance.now() + PATIENCE_MS;
  for (;;) {
    const claimed = await store.claimedCalls({ runId });
    if (claimed === 0) return;
    Context.current().heartbeat({ claimed });
    if (performance.now() > patience)
      throw failure(
        'Waiting',
        `calls of the run that may still act, until their leases are over: ${claimed}`,
        1_000,
      );
    await delay(POLL_MS);
  }
}

/**
 * A ledger that has lost entries is brought back by an operator, and nobody knows when. Entering waits for it in place:
 * no history grows, and Temporal's UI shows why.
 */
function waitWhileRewound({ kind, message, retryAfterMs }: Refusal): void {
  if (kind === 'frozen') throw failure('Waiting', message, retryAfterMs ?? 30_000);
}
