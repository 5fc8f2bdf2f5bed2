import { log, workflowInfo } from '@temporalio/workflow';
import type { PackedHead } from '../contracts/workflow-io';
import { sweep } from './activities';
import { changed } from './patches';

/** What a sweep did, and where journals ended then: the next one holds the ledgers against it. */
export interface Swept {
  readonly started: number;
  readonly closed: number;
  readonly reaped: number;
  readonly controls: number;
  readonly followUps?: number;
  readonly purged?: number;
  readonly told?: number;
  readonly rewound?: number;
  readonly heads?: readonly PackedHead[];
}

/**
 * Mends what was lost between the database and Temporal; fired by a schedule that skips overlaps. One part that fails
 * does not keep the others from their work, and comes again with the next firing.
 *
 * Before it mends by what the ledger says, it asks whether the ledger is what it was: Temporal gives each firing the
 * result of the last one that completed, so journals have a witness outside the database (promise O8).
 */
export async function platformSweep(): Promise<Swept> {
  const witnessed = changed('sweep-journal-heads') ? await witness() : {};
  const parts = [
    sweep.startAccepted().then(({ started }) => ({ started })),
    sweep.closeGone().then(({ closed }) => ({ closed })),
    sweep.reapCalls().then(({ reaped }) => ({ reaped })),
    sweep.ensureControls().then(({ started }) => ({ controls: started })),
    ...(changed('sweep-follow-ups')
      ? [
          sweep.startFollowUps().then(({ started }) => ({ followUps: started })),
          sweep.purge().then(({ purged }) => ({ purged })),
        ]
      : []),
    ...(changed('sweep-queues') ? [sweep.tendQueues().then(({ told }) => ({ told }))] : []),
  ];
  let swept: Swept = { started: 0, closed: 0, reaped: 0, controls: 0, ...witnessed };
  for (const part of await Promise.allSettled<Partial<Swept>>(parts)) {
    if (part.status === 'fulfilled') swept = { ...swept, ...part.value };
    else log.warn('a part of the sweep failed; it comes again', { error: String(part.reason) });
  }
  return swept;
}

/** Holds the ledgers against the last sweep. Where that fails, what was known stays the witness. */
async function witness(): Promise<Pick<Swept, 'rewound' | 'heads'>> {
  const lastHeads = (workflowInfo().lastResult as Partial<Swept> | undefined)?.heads ?? [];
  try {
    const { rewound, heads } = await sweep.checkHeads({ lastHeads });
    if (rewound > 0)
      log.error('ledgers are older than they were: `bulkhead recover` brings them back', { rewound });
    return { rewound, heads };
  } catch (error) {
    log.warn('journals could not be held against the last sweep; it comes again', { error: String(error) });
    return { heads: lastHeads };
  }
}
