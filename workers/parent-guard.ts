/**
 * Loaded before the module of every process that a supervisor starts: when the supervisor is gone, also by SIGKILL,
 * its end of the channel closes, and this process ends as on SIGTERM. One that hangs while it stops is cut off.
 */
const CUT_OFF_MS = 8_000;

process.once('disconnect', () => {
  setTimeout(() => process.exit(1), CUT_OFF_MS).unref();
  process.kill(process.pid, 'SIGTERM');
});
// The channel alone shall not keep a process running that has finished.
process.channel?.unref();
