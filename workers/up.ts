import path from 'node:path';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { Exit, EXIT } from '../client/cli/exit';
import { openStorage } from '../storage/open';
import type { Example, ScenarioRow } from '../tools/example';
import { bringUp, workerReady, type Stack } from './bring-up';
import { loadConfigWith, type Config } from './config';
import { createExampleContext, type OpenedExampleContext } from './example-context';
import { loadExample } from './example-host';
import { followDedicatedLanes, type LaneProcesses } from './lanes';
import { compiledModule } from './package-paths';

interface UpOptions {
  readonly example: string;
  readonly once?: boolean;
  readonly scenario?: string;
  readonly stateDir?: string;
}

/** Adds `bulkhead up`. */
export function registerUp(program: Command): void {
  program
    .command('up')
    .description('bring everything up on this machine: Temporal, PostgreSQL, workers and an example')
    .option('--example <name>', 'the example product to run', 'support-desk')
    .option(
      '--once',
      'run its main scenario to the end, print a table, and exit 0 only if all is as it should be',
    )
    .option('--scenario <name>', 'run another of its scenarios, by the same rule')
    .option(
      '--state-dir <directory>',
      'where databases, keys and logs are kept (default: BULKHEAD_STATE_DIR, or .bulkhead)',
    )
    .addHelpText(
      'after',
      `
Scenarios of support-desk; each exits 0 only if what it promises was seen to hold:
  main       ninety tickets, eighteen of them hostile (what plain \`up\` runs)
  kill       a tenant is killed while it works, and released
  crash      workers and PostgreSQL are killed while all tenants work: nothing twice, nothing lost
  rollback   runs are undone in reverse order: by themselves, by an operator, with a system away
  approvals  what policy asks people about waits, is approved, denied, forbidden by a policy edited meanwhile
  flood      a tenant starts hundreds of runs at once: the others keep their pace, its own wait and say why

Examples:
  $ bulkhead up
  $ bulkhead up --once
  $ bulkhead up --scenario crash
`,
    )
    .action(async (options: UpOptions) => {
      throw new Exit(await up(options));
    });
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Runs `bulkhead up` to its end and answers its exit code. Rejects where the stack cannot come up. */
export async function up(options: UpOptions): Promise<number> {
  const config = loadConfigWith(
    options.stateDir === undefined ? {} : { BULKHEAD_STATE_DIR: path.resolve(options.stateDir) },
  );
  const example = await loadExample(options.example);
  const scenario = scenarioOf(example, options.scenario ?? 'main');
  const toTheEnd = options.once === true || options.scenario !== undefined;

  const ending = watchForEnd();
  const started = performance.now();
  say(`Bulkhead: state in ${config.stateDir}`);
  let stack: Stack | undefined;
  let opened: OpenedExample | undefined;
  let scenarioRuns = false;
  try {
    const rising = bringUp({ config, appModule: config.app ?? example.appModule, step: sayStep, say });
    const risen = await Promise.race([rising, ending.interrupted]);
    if (risen === INTERRUPTED) {
      say('stopping what came up so far');
      stack = await rising;
      return EXIT.interrupted;
    }
    stack = risen;
    opened = await openExample(stack, example, ending);
    sayAddresses(stack, performance.now() - started);

    if (toTheEnd) say(`running ${example.name} to its end`);
    scenarioRuns = true;
    const running = scenario(opened.context);
    running.catch(() => undefined);
    const rows = await Promise.race([running, stack.broken, ending.crashed, ending.interrupted]);
    if (rows === INTERRUPTED) return EXIT.interrupted;
    scenarioRuns = false;
    const allRight = sayRows(rows);
    if (toTheEnd) return allRight ? EXIT.done : EXIT.failed;

    say('everything stays up; Ctrl-C stops it');
    await Promise.race([ending.interrupted, stack.broken, ending.crashed]);
    return EXIT.interrupted;
  } catch (error) {
    if (!scenarioRuns) throw error;
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return EXIT.failed;
  } finally {
    if (ending.happened()) say('stopping; once more to end at once');
    await opened?.stopFollowing();
    // A scenario cut off is still asking: its connection is left to the process's end, since closing it under a call
    // that is about to be retried throws where nobody can catch.
    if (!scenarioRuns) await opened?.context.close();
    await stack?.stop();
    if (stack) say('stopped');
    ending.dispose(scenarioRuns);
  }
}

function sayRows(rows: readonly ScenarioRow[]): boolean {
  const wrong = rows.filter((row) => !row.ok);
  say(tableOf(rows));
  const allRight = rows.length > 0 && wrong.length === 0;
  say(
    allRight
      ? `all ${rows.length} as the scenario says`
      : `${wrong.length} of ${rows.length} not as the scenario says`,
  );
  return allRight;
}

function scenarioOf(example: Example, name: string): NonNullable<Example['scenarios'][string]> {
  const scenario = Object.hasOwn(example.scenarios, name) ? example.scenarios[name] : undefined;
  if (!scenario)
    throw new Error(
      `example ${example.name} has no scenario ${name}: it has ${Object.keys(example.scenarios).join(', ')}`,
    );
  return scenario;
}

interface OpenedExample {
  readonly context: OpenedExampleContext;
  stopFollowing(): Promise<void>;
}

async function openExample(stack: Stack, example: Example, ending: Ending): Promise<OpenedExample> {
  const config = loadConfigWith(stack.addresses.env);
  const sayUntilEnd = (line: string): void => (ending.happened() ? undefined : say(`  ${line}`));
  const context = await createExampleContext({
    config,
    stack,
    say: sayUntilEnd,
  });
  const lanes = openLanes(stack, config);
  try {
    const started = performance.now();
    await example.start(context);
    sayStep(
      `example ${example.name}`,
      'its systems, tenants, policies and credentials',
      performance.now() - started,
    );
    return { context, stopFollowing: lanes.stop };
  } catch (error) {
    await lanes.stop();
    await context.close();
    throw error;
  }
}

/** Follows the dedicated lanes of every environment, each through storage of its own. */
function openLanes(stack: Stack, config: Config): { stop: () => Promise<void> } {
  const databaseUrl = config.database.app?.reveal();
  if (databaseUrl === undefined)
    throw new Error('the stack has no database address: this is a defect of `bulkhead up`');
  const opened = config.environments.map((environment) => {
    const storage = openStorage({
      databaseUrl,
      environment,
      hostId: 'up',
      pools: { tenants: 1, control: 1, platform: 1 },
    });
    const lanes = followDedicatedLanes({
      placements: () => storage.platform.placements(),
      everyMs: config.timing.placementPollMs,
      say,
      processes: dedicatedHosts(stack, environment),
    });
    return { storage, lanes };
  });
  return {
    stop: async () => {
      for (const { storage, lanes } of opened) {
        await lanes.stop();
        await storage.close();
      }
    },
  };
}

function dedicatedHosts(stack: Stack, environment: string): LaneProcesses {
  const nameOf = (tenantId: string): string => `${environment}-host-${tenantId}`;
  return {
    start: async (tenantId) => {
      const started = performance.now();
      const { pid } = await stack.children.start({
        name: nameOf(tenantId),
        module: compiledModule('workers/main'),
        args: ['worker', '--role', 'host', '--tenant', tenantId],
        env: stack.workerEnvironment(environment),
        ready: workerReady,
        restart: true,
      });
      sayStep(`worker ${nameOf(tenantId)}`, `process ${pid}, dedicated lane`, performance.now() - started);
    },
    stop: (tenantId) => stack.children.stop(nameOf(tenantId)),
  };
}

function sayStep(what: string, detail: string, tookMs: number): void {
  const took = tookMs < 1_000 ? `${Math.round(tookMs)} ms` : `${(tookMs / 1_000).toFixed(1)} s`;
  say(`  ${what.padEnd(24)} ${took.padStart(8)}  ${detail}`);
}

function sayAddresses(stack: Stack, tookMs: number): void {
  const { addresses, downloadMs } = stack;
  const downloaded = downloadMs > 0 ? `, and ${(downloadMs / 1_000).toFixed(1)} s of downloading` : '';
  say(`up in ${((tookMs - downloadMs) / 1_000).toFixed(1)} s${downloaded}`);
  if (addresses.temporalUiUrl)
    say(
      `  Temporal UI   ${addresses.temporalUiUrl}/namespaces/${addresses.environments[0] ?? 'prod'}/workflows`,
    );
  say(`  Temporal      ${addresses.temporalAddress}`);
  say('  commands      npx bulkhead --help');
}

/** The rows of a scenario as a table. */
export function tableOf(rows: readonly ScenarioRow[]): string {
  const table = new Table({
    head: ['run', 'tenant', 'state', 'stop reason', 'expected', 'calls', 'spend', 'ok', 'note'],
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) {
    const spend = `$${(row.spendMicroUsd / 1_000_000).toFixed(4)}`;
    table.push([
      row.run,
      row.tenant,
      row.state,
      row.stopReason,
      row.expected,
      row.calls,
      spend,
      row.ok ? 'yes' : 'NO',
      row.note,
    ]);
  }
  return table.toString();
}

const INTERRUPTED = Symbol('interrupted');

interface Ending {
  readonly interrupted: Promise<typeof INTERRUPTED>;
  /** Rejects with an error that nobody caught, so that the stack is stopped before the process ends. */
  readonly crashed: Promise<never>;
  happened(): boolean;
  /** Gives the signals back. `cutOff`: something still runs that would keep the process, and is ended with it. */
  dispose(cutOff: boolean): void;
}

/** Hears Ctrl-C and SIGTERM. The second one ends the process where it stands: its children end by themselves. */
function watchForEnd(): Ending {
  let times = 0;
  let hear: (value: typeof INTERRUPTED) => void = () => undefined;
  let crash: (error: Error) => void = () => undefined;
  const interrupted = new Promise<typeof INTERRUPTED>((resolve) => (hear = resolve));
  const crashed = new Promise<never>((_, reject) => (crash = reject));
  crashed.catch(() => undefined);
  const onSignal = (): void => {
    times += 1;
    hear(INTERRUPTED);
    if (times > 1) process.exit(EXIT.interrupted);
  };
  const onError = (error: Error): void => crash(error);
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  process.on('uncaughtException', onError);
  return {
    interrupted,
    crashed,
    happened: () => times > 0,
    dispose: (cutOff) => {
      if (cutOff) process.exit(times > 0 ? EXIT.interrupted : EXIT.failed);
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
      process.off('uncaughtException', onError);
    },
  };
}
