/**
 * Dynamic configuration of the embedded Temporal server; a cluster takes the same keys in its dynamic config file
 * (`docker-compose.yml` shows it). Measured on server 1.32, on a machine of two cores.
 */
export const SERVER_SETTINGS: Readonly<Record<string, boolean | number | string>> = {
  // Fairness keys are ignored without it, and one tenant's flood is served before all others.
  'matching.enableFairness': true,
  // One partition: exact fairness and limits. Enough below about 1,000 tasks a second a queue.
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
  // Cancels reach activities that do not heartbeat, in 0.1 s. Experimental: it may only make things faster.
  'frontend.WorkerCommandsEnabled': true,
  'system.enableCancelActivityWorkerCommand': true,
  // At the default of 20 a serial chain of activities settles at 90 ms a call, at 2000 at 40 ms.
  'history.transferProcessorMaxPollRPS': 2_000,
  // Long polls at once: the default of 1,200 refuses the pollers of 150 tenants, silently.
  'frontend.namespaceCount': 20_000,
  // Timers are as coarse as this: at the default of 1 s a sleep of 200 ms takes a second.
  'history.timerProcessorMaxTimeShift': '50ms',
  // A workflow task that a killed worker took with it is waited for, longer with each time: at the default of 10 min a run whose
  // worker died a few times in a row stood still for minutes.
  'history.workflowTaskRetryMaxInterval': '2s',
  // A batch signal to a tenant's runs at the default of 50 a second would take too long in a kill.
  'worker.batcherRPS': 1_000,
};

/** The settings as arguments of `temporal server start-dev`. */
export function settingArguments(): string[] {
  return Object.entries(SERVER_SETTINGS).flatMap(([key, value]) => [
    '--dynamic-config-value',
    `${key}=${JSON.stringify(value)}`,
  ]);
}

/**
 * How the embedded server keeps its state. SQLite's own default, a rollback journal, costs three flushes of the disk and a file
 * made and removed for each transaction: 750 flushes a second at 25 calls a second. A write-ahead log with `synchronous=full` loses as
 * little (nothing that was acknowledged, also when the machine fails) and flushes once.
 * <https://sqlite.org/wal.html>, <https://sqlite.org/pragma.html#pragma_synchronous>
 */
const SQLITE_PRAGMAS = { journal_mode: 'wal', synchronous: 'full' } as const;

/** Arguments of `temporal server start-dev` that keep its state in this file. */
export function stateArguments(file: string): string[] {
  return [
    '--db-filename',
    file,
    ...Object.entries(SQLITE_PRAGMAS).flatMap(([name, value]) => ['--sqlite-pragma', `${name}=${value}`]),
  ];
}
