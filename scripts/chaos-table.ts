import Table from 'cli-table3';
import { CHECKPOINTS, type CheckpointName } from '../contracts/checkpoint';
import type { ChaosReport } from '../test/chaos/report';

/** The summary of a chaos run: docs/testing.md says what each row means. */
export function chaosTable(report: ChaosReport): string {
  const { writes, unknown, journal, kills, databaseCrashes, workers } = report;
  const table = new Table({ style: { head: [], border: [] }, colAligns: ['left', 'right', 'left'] });
  const rows: [string, number | string, string][] = [
    ['writes intended', writes.intended, `${report.runs} runs of ${report.tenants} tenants`],
    ['effects outside', writes.effects, `of ${writes.expectedEffects}, undos included`],
    ['duplicates', writes.duplicates, ''],
    ['lost', writes.lost, ''],
    ['undone', writes.undone, `of ${writes.undoExpected}; ${writes.undoOutOfOrder} runs out of order`],
    [
      'unknown',
      unknown.reviews,
      `resolved: ${unknown.happened} happened, ${unknown.didNotHappen} did not; ${unknown.open} open`,
    ],
    ['journal: done', journal.successes, `of ${journal.entries} entries; ${journal.broken} chains broken`],
    ['journal, not outside', journal.withoutEffect, ''],
    ['outside, not journal', journal.withoutSuccess, ''],
    ['kills', kills.done, `of ${kills.planned} planned, ${kills.atMoments} at moments`],
    ...(Object.keys(CHECKPOINTS) as CheckpointName[]).map((point): [string, number, string] => [
      `  ${point}`,
      kills.byPoint[point] ?? 0,
      '',
    ]),
    ['database crashes', databaseCrashes.done, `of ${databaseCrashes.planned} planned`],
    ['worker starts', workers.starts, `${workers.endedByThemselves} ended by themselves`],
    ['duration', `${(report.durationMs / 1_000).toFixed(1)} s`, ''],
    ['plan', report.planDigest.slice(0, 12), `seed ${report.seed}`],
  ];
  for (const row of rows) table.push(row);
  return table.toString();
}
