import { log } from '@temporalio/workflow';
import { sweep } from './activities';

/**
 * Mends what was lost between the database and Temporal; fired by a schedule that skips overlaps. One part that fails
 * does not keep the others from their work, and comes again with the next firing.
 */
export async function platformSweep(): Promise<{
  started: number;
  closed: number;
  reaped: number;
  controls: number;
}> {
  const [started, closed, reaped, controls] = await Promise.allSettled([
    sweep.startAccepted(),
    sweep.closeGone(),
    sweep.reapCalls(),
    sweep.ensureControls(),
  ]);
  for (const part of [started, closed, reaped, controls]) {
    if (part.status === 'rejected')
      log.warn('a part of the sweep failed; it comes again', { error: String(part.reason) });
  }
  return {
    started: started.status === 'fulfilled' ? started.value.started : 0,
    closed: closed.status === 'fulfilled' ? closed.value.closed : 0,
    reaped: reaped.status === 'fulfilled' ? reaped.value.reaped : 0,
    controls: controls.status === 'fulfilled' ? controls.value.started : 0,
  };
}
