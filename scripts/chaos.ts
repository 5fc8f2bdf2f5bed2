import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { chaos, planOf, type ChaosOptions } from '../test/chaos/core';
import { chaosTable } from './chaos-table';
import { onTemporal, progressOf } from './proof-ground';

const EXIT = { held: 0, breached: 1, usage: 2 } as const;

interface Flags {
  readonly writes: number;
  readonly kills: number;
  readonly dbCrashes: number;
  readonly seed: number;
  readonly hosts: number;
  readonly without?: 'idempotency';
  readonly json?: boolean;
  readonly plan?: boolean;
}

const program = new Command('chaos')
  .description(
    'Does writes on a real Temporal and PostgreSQL while workers are killed and the database is crashed, then counts at the systems outside.',
  )
  .option('--writes <n>', 'writes to do', whole(1), 200)
  .option('--kills <n>', 'SIGKILLs of worker processes, at named places and at moments', whole(0), 20)
  .option('--db-crashes <n>', 'immediate stops of the database', whole(0), 0)
  .option('--seed <n>', 'of the plan: the same seed plans the same', whole(0), 1)
  .option('--hosts <n>', 'worker processes', whole(1), 2)
  .addOption(
    new Option('--without <what>', 'the control arm: break it on purpose, and see that it shows').choices([
      'idempotency',
    ]),
  )
  .option('--plan', 'print the planned kills and crashes, and do nothing')
  .option('--json', 'print the report as JSON')
  .addHelpText(
    'after',
    `
Examples:
  $ npm run chaos -- --writes 200 --kills 20 --db-crashes 4
  $ npm run chaos -- --writes 60 --kills 15 --without idempotency

Exit codes: ${EXIT.held} nothing was lost or doubled and the books agree · ${EXIT.breached} any breach · ${EXIT.usage} wrong usage.
With --without it is expected to end ${EXIT.breached}. docs/testing.md says what each row means.`,
  )
  .exitOverride();

async function main(): Promise<number> {
  program.parse();
  const flags = program.opts<Flags>();
  const options: ChaosOptions = {
    seed: flags.seed,
    writes: flags.writes,
    kills: flags.kills,
    dbCrashes: flags.dbCrashes,
    hosts: flags.hosts,
    ...(flags.without ? { without: flags.without } : {}),
  };
  const plan = planOf(options);
  if (plan.kills.length < flags.kills) {
    process.stderr.write(
      `${flags.writes} writes have places for ${plan.kills.length} kills: ask for fewer kills, or more writes\n`,
    );
    return EXIT.usage;
  }
  if (flags.plan) {
    const { kills, crashes, digest } = plan;
    process.stdout.write(`${JSON.stringify({ digest, kills, crashes }, null, 2)}\n`);
    return EXIT.held;
  }
  const progress = progressOf('chaos');
  process.stderr.write(`plan ${plan.digest} of seed ${flags.seed}\n`);
  const report = await onTemporal((temporal) =>
    chaos(temporal, {
      ...options,
      onProgress: ({ effects, expected, kills, crashes }) =>
        progress.at(effects, expected, `· ${kills} kills · ${crashes} crashes`),
    }),
  ).finally(() => progress.end());
  process.stdout.write(`${flags.json ? JSON.stringify(report, null, 2) : chaosTable(report)}\n`);
  for (const breach of report.breaches) process.stderr.write(`BREACH: ${breach}\n`);
  return report.breaches.length === 0 ? EXIT.held : EXIT.breached;
}

function whole(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least)
      throw new InvalidArgumentError(`a whole number from ${least}`);
    return value;
  };
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? EXIT.held : EXIT.usage);
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(EXIT.breached);
  },
);
