import type { ExampleContext, JournaledWrite } from '../../../tools/example';
import type { Tenant } from '../data';
import type { EffectRow } from '../systems/store';
import { SYSTEMS } from '../world';
import type { Handled } from './runs';
import { differences } from './witness';

/** What was meant, what the systems logged and what the journal says of a tenant's runs, held against each other. */
export interface Account {
  readonly tenant: Tenant;
  readonly intended: number;
  /** By system. */
  readonly effects: Readonly<Record<string, number>>;
  /** Writes whose first attempt did not bring them to their end. */
  readonly recovered: number;
  readonly duplicates: string[];
  readonly lost: string[];
  readonly waiting: string[];
  /** Succeeded by the journal, and no log has its key. */
  readonly unlogged: string[];
  /** Logged under a key that the journal does not say succeeded. */
  readonly unjournaled: string[];
}

export async function account(
  context: ExampleContext,
  tenant: Tenant,
  handled: readonly Handled[],
  logged: readonly EffectRow[],
): Promise<Account> {
  const runs = new Set(handled.map(({ runId }) => runId));
  const references = new Set(handled.map(({ ticket }) => ticket.record.id));
  const own = logged.filter(({ reference }) => reference !== null && references.has(reference));
  const writes = (await context.writes(tenant)).filter(({ runId }) => runs.has(runId));
  const reviews = (await context.openReviews(tenant)).filter(({ runId }) => runs.has(runId));
  const exact = context.model(tenant) === undefined;
  const wrong = exact
    ? handled.flatMap(({ ticket }) =>
        differences(
          ticket.expect.effects,
          own.filter(({ reference }) => reference === ticket.record.id),
          true,
        ),
      )
    : [];
  const keys = new Map<string, number>();
  for (const { idempotencyKey } of own)
    keys.set(String(idempotencyKey), (keys.get(String(idempotencyKey)) ?? 0) + 1);
  const succeeded = new Set(writes.filter(({ state }) => state === 'succeeded').map(({ key }) => key));
  return {
    tenant,
    intended: exact ? handled.flatMap(({ ticket }) => ticket.expect.effects).length : writes.length,
    effects: Object.fromEntries(
      SYSTEMS.map((system) => [system, own.filter((row) => row.system === system).length]),
    ),
    recovered: writes.filter(({ attempts }) => attempts > 1).length,
    // Where each change is known beforehand, one too many is told apart from one that never was meant; else a key tells.
    duplicates: exact
      ? wrong.filter((what) => !what.startsWith('missing: '))
      : [...keys].flatMap(([key, times]) => (times > 1 ? [`more than once: key ${key}`] : [])),
    lost: wrong.filter((what) => what.startsWith('missing: ')).map((what) => what.replace('missing: ', '')),
    waiting: reviews.map(({ reviewNo, action }) => `review ${reviewNo}, ${action}`),
    unlogged: writes.filter((write) => write.state === 'succeeded' && !keys.has(write.key)).map(told),
    unjournaled: own
      .filter(({ idempotencyKey }) => !succeeded.has(String(idempotencyKey)))
      .map(({ operation, recordId }) => `${operation} ${recordId}`),
  };
}

const told = ({ action, runId, path }: JournaledWrite): string => `${action} at ${path} of run ${runId}`;

/** The accounts as a table of plain lines, with a row for all. */
export function tableOfAccounts(accounts: readonly Account[]): string[] {
  const head = [
    'tenant',
    'intended',
    ...SYSTEMS,
    'tried again',
    'duplicates',
    'lost',
    'in review',
    'journal only',
    'log only',
  ];
  const rows = accounts.map((one) => [
    one.tenant,
    one.intended,
    ...SYSTEMS.map((system) => one.effects[system] ?? 0),
    one.recovered,
    one.duplicates.length,
    one.lost.length,
    one.waiting.length,
    one.unlogged.length,
    one.unjournaled.length,
  ]);
  const sums = head.map((_, column) =>
    column === 0 ? 'all' : rows.reduce((sum, row) => sum + Number(row[column]), 0),
  );
  const text = [head, ...rows, sums].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...text.map((row) => row[column]?.length ?? 0)));
  return [
    `writes intended, effects at ${SYSTEMS.join(', ')}, and what the journal says:`,
    ...text.map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  '),
    ),
  ];
}
