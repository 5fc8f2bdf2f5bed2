import type { SignedEnvelope } from '../contracts/envelope';
import type { RunId } from '../contracts/ids';
import type { TenantStore } from '../contracts/ports';
import type { FollowUpKind } from '../contracts/reviews';
import type { StopReason } from '../contracts/states';
import type { Policies } from './policies';
import type { TellSlots } from './tell-slots';

/** Starts the workflow of a follow-up; harmless for one that was started. */
export type StartFollowUp = (
  signed: SignedEnvelope,
  followUp: { kind: FollowUpKind; followUpNo: number },
) => Promise<unknown>;

/** What a closing needs to know of a run. */
export interface ClosingRun {
  readonly runId: RunId;
  readonly temporalRunId: string | null;
  readonly agentId: string;
  readonly agentVersion: string;
}

/** Ends that order no undo, whatever agent and policy say: done, or given up by the caller. */
const NEVER_UNDONE: readonly StopReason[] = ['completed', 'cancelled'];

/**
 * The one way in which a run is closed, by itself, by a kill or by the sweep: with it an undo is ordered where the run's
 * agent asks for one after a failure, or the policy in force after a kill (promise T5). What the ledger then says the run
 * ended by decides which of the two counts. Who has its slot now is told.
 */
export function createLeaving({
  policies,
  tellSlots,
}: {
  policies: Policies;
  /** Left out where the sweep does it. */
  tellSlots?: TellSlots;
}) {
  const undoOf = async (store: TenantStore, run: ClosingRun) => {
    const [agent, text] = await Promise.all([store.agent(run.agentId, run.agentVersion), store.policyText()]);
    const inForce = text && (await policies.inForce(store, text.version));
    return {
      onFailure: agent?.onFailure === 'undo',
      // A policy that does not compile orders nothing.
      onKill: inForce !== undefined && 'policy' in inForce && inForce.policy.compensateOnKill,
    };
  };

  return async (
    store: TenantStore,
    run: ClosingRun,
    ending: { stopReason: StopReason; outputRef: string | null },
  ): Promise<{ stopReason: StopReason; followUpNo?: number }> => {
    const { runId, temporalRunId } = run;
    const undo = NEVER_UNDONE.includes(ending.stopReason) ? undefined : await undoOf(store, run);
    const { handed = [], ...left } = await store.leaveRun({
      runId,
      temporalRunId,
      ...ending,
      ...(undo && { undo }),
    });
    await tellSlots?.(handed);
    return left;
  };
}
export type Leaving = ReturnType<typeof createLeaving>;
