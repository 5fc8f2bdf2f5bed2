import type { Client } from '@temporalio/client';
import type { Handed } from '../contracts/rows';
import { SIGNALS } from '../contracts/workflow-io';
import { inBatches } from './batches';

/** Tells workflows that they hold a slot. May fail, and never throws: whom it did not reach the sweep tells again. */
export type TellSlots = (workflowIds: Handed) => Promise<void>;

const AT_ONCE = 16;
const DEADLINE_MS = 2_000;

/**
 * The one way in which runs learn that they may go on from the line for slots: a hint, for the workflow asks the ledger.
 * One that is not started yet, or gone, needs none: it asks by itself once it is started.
 */
export function slotTeller(client: Client): TellSlots {
  return async (workflowIds) => {
    await inBatches(
      workflowIds,
      AT_ONCE,
      async (workflowId) => {
        await client.withDeadline(Date.now() + DEADLINE_MS, () =>
          client.workflow.getHandle(workflowId).signal(SIGNALS.wakeRun),
        );
      },
      () => undefined,
    );
  };
}
