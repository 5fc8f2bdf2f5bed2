import { setTimeout as delay } from 'node:timers/promises';
import { Context, log } from '@temporalio/activity';
import type { Client } from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/client';
import type { Storage, TenantStore } from '../contracts/ports';
import type { RunRow } from '../contracts/rows';
import { SIGNALS, type ControlActivities, type ControlState } from '../contracts/workflow-io';
import { inBatches } from './batches';
import { createLeaving, type Leaving } from './leaving';
import type { Policies } from './policies';
import { callingControl } from './call-context';
import { applyCommands } from './control-commands';
import { failure } from './failure';
import { slotTeller } from './tell-slots';

const POLL_MS = 50;
/** The same where something did not let itself be done. */
const FAILED_POLL_MS = 1_000;
const PAGE = 200;
/** Signals and terminations under way at once: a kill of many runs must not swamp the server that others use too. */
const AT_ONCE = 16;

/** What the control workflow of a tenant does outside: the fence first, then the clean-up (promise O1). */
export function createControl(parts: {
  storage: Storage;
  client: Client;
  policies: Policies;
  drainGraceMs: number;
}): ControlActivities {
  const { storage, client, drainGraceMs, policies } = parts;
  const leave = createLeaving({ policies, tellSlots: slotTeller(client) });

  const stateOf = async (store: TenantStore): Promise<ControlState> => {
    const state = await store.control();
    if (!state)
      throw failure(
        'PlatformBusy',
        `tenant ${store.scope.tenantId} has no ledger; create it with \`bulkhead tenant create\``,
      );
    return state;
  };

  return {
    async loadControl() {
      return await stateOf(storage.tenant(callingControl()));
    },

    async applyControl({ commands }) {
      const store = storage.tenant(callingControl());
      return await applyCommands(store, commands, await stateOf(store));
    },

    async awaitContained({ fenceEpoch }) {
      const store = storage.tenant(callingControl());
      for (;;) {
        Context.current().cancellationSignal.throwIfAborted();
        const left = await store.claimedCalls({ beforeEpoch: fenceEpoch });
        Context.current().heartbeat({ left });
        if (left === 0) return await store.markContained(fenceEpoch);
        await delay(POLL_MS);
      }
    },

    async drainRuns({ fenceEpoch }) {
      const store = storage.tenant(callingControl());
      const { cancellationSignal, info } = Context.current();
      const signalled = new Set<string>();
      const failed = new Set<string>();
      for (;;) {
        cancellationSignal.throwIfAborted();
        const open = await store.openRuns(PAGE, { beforeEpoch: fenceEpoch });
        Context.current().heartbeat({ open: open.length });
        if (open.length === 0) return await store.markDrained(fenceEpoch);
        // Of the activity, not of its attempt: one that is tried again still comes to its end.
        const graceOver = Date.now() - info.scheduledTimestampMs > drainGraceMs;
        let failures = 0;
        await inBatches(
          open,
          AT_ONCE,
          async (run) => {
            if (graceOver) await end(client, leave, store, run);
            else if (!signalled.has(run.runId)) await signalKill(client, leave, store, run, signalled);
          },
          ({ runId }, error) => {
            failures += 1;
            if (!failed.has(runId)) log.warn('a run is not drained yet', { runId, error: String(error) });
            failed.add(runId);
          },
        );
        await delay(failures > 0 ? FAILED_POLL_MS : POLL_MS);
      }
    },
  };
}

async function signalKill(
  client: Client,
  leave: Leaving,
  store: TenantStore,
  run: RunRow,
  signalled: Set<string>,
): Promise<void> {
  try {
    await client.workflow.getHandle(run.workflowId).signal(SIGNALS.killRun);
    signalled.add(run.runId);
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
    // Accepted but never started, or gone: nothing of it can act, so the row is all there is to close.
    await close(leave, store, run);
  }
}

/** A run that did not answer its kill within the grace is terminated; it holds no claimed call any more or none that can act. */
async function end(client: Client, leave: Leaving, store: TenantStore, run: RunRow): Promise<void> {
  try {
    await client.workflow.getHandle(run.workflowId).terminate('killed: the run did not end within the grace');
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
  }
  await close(leave, store, run);
}

/** An undo that it orders is started by the sweep. */
const close = (leave: Leaving, store: TenantStore, run: RunRow): Promise<unknown> =>
  leave(store, run, { stopReason: 'killed', outputRef: null });
