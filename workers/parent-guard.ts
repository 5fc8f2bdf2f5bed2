import { graceOf } from './grace';

/**
 * Loaded before the module of every process that a supervisor starts: when the supervisor is gone, also by SIGKILL,
 * its end of the channel closes, and this process ends as on SIGTERM. One that hangs while it stops is cut off when the
 * supervisor would have done it; the first thing that the supervisor tells is when that is.
 */
let cutOffMs = graceOf(5_000).processEndsWithinMs;

process.once('message', (told: GuardOrder) => (cutOffMs = told.cutOffMs));
process.once('disconnect', () => {
  setTimeout(() => process.exit(1), cutOffMs).unref();
  process.kill(process.pid, 'SIGTERM');
});
// The channel alone shall not keep a process running that has finished.
process.channel?.unref();

/** What a supervisor sends to each process that it starts. */
export interface GuardOrder {
  readonly cutOffMs: number;
}
