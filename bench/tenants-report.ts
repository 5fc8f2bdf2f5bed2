import { cpus } from 'node:os';

/** What a spell took, all hosts and servers together. */
export interface Spent {
  readonly ms: number;
  /** Statements of calls and runs; polls by the clock are not among them. */
  readonly statements: number;
  readonly commits: number;
  /** Bytes. */
  readonly wal: number;
  readonly walPages: number;
  /** Processor time by group. */
  readonly cpuMs: Readonly<Record<string, number>>;
  /** Of the whole machine. */
  readonly busyMs: number;
}

/** What so many tenants came to. */
export interface Carried {
  readonly tenants: number;
  readonly lanesOpen: number;
  /** From the start of the host's process. */
  readonly openedMs: number;
  /** `null` where the host did not open all lanes. */
  readonly measured: {
    readonly calls: number;
    readonly events: number;
    readonly idle: Spent;
    readonly loaded: Spent;
    readonly bytes: Readonly<Record<'host' | 'control' | 'temporal' | 'postgres', number>>;
  } | null;
}

const FLAT = 1.25;
/** As the hosts open them: at most two of a lane. */
const POLLS_PER_LANE = 2;
const MIB = 1_048_576;
const KIB = 1_024;

/** Per call, what the hosts do by the clock taken out. */
export interface PerCall {
  readonly statements: number;
  readonly commits: number;
  readonly wal: number;
  readonly walPages: number;
  readonly events: number;
  readonly cpuMs: number;
}

/** `undefined` where nothing was measured. */
export function perCallOf({ measured }: Carried): PerCall | undefined {
  if (!measured) return undefined;
  const { calls, events, idle, loaded } = measured;
  const net = (of: (spent: Spent) => number): number =>
    (of(loaded) - (of(idle) / idle.ms) * loaded.ms) / calls;
  return {
    statements: net(({ statements }) => statements),
    commits: net(({ commits }) => commits),
    wal: net(({ wal }) => wal),
    walPages: net(({ walPages }) => walPages),
    events: events / calls,
    cpuMs: net(sumOfCpu),
  };
}

const sumOfCpu = ({ cpuMs }: Spent): number => Object.values(cpuMs).reduce((sum, ms) => sum + ms, 0);

/** The whole report, as printed. */
export function tenantsReport(
  carried: readonly Carried[],
  { seconds, rate, callsPerRun }: { seconds: number; rate: number; callsPerRun: number },
  versions: { readonly temporal: string; readonly postgres: string },
): string {
  const perCall = carried.map(perCallOf);
  const cells = (of: (one: Carried, call: PerCall | undefined) => string): string =>
    carried.map((one, index) => of(one, perCall[index]).padStart(12)).join('');
  const line = (name: string, of: (one: Carried, call: PerCall | undefined) => string): string =>
    `  ${name.padEnd(40)}${cells(of)}`;
  const ofCall = (name: string, key: keyof PerCall, unit = 1): string =>
    `${line(name, (_, call) => (call ? (call[key] / unit).toFixed(2) : '–'))}  ${flatness(perCall, key)}`;
  const measuredLine = (name: string, of: (measured: NonNullable<Carried['measured']>) => string): string =>
    line(name, ({ measured }) => (measured ? of(measured) : '–'));
  return [
    `tenants: ${rate} runs a second of ${callsPerRun} calls each, ${seconds} s, spread over all tenants, each with a lane of its own`,
    `  Temporal server ${versions.temporal} (embedded, SQLite), PostgreSQL ${versions.postgres}, Node ${process.version}, ${cpus().length} cores`,
    line('tenants', ({ tenants }) => String(tenants)),
    'opening:',
    line('lanes open', ({ lanesOpen, tenants }) =>
      lanesOpen < tenants ? `${lanesOpen}: not all` : String(lanesOpen),
    ),
    line('until all were open, s', ({ openedMs }) => (openedMs / 1_000).toFixed(1)),
    line('long polls of the host’s lanes', ({ lanesOpen }) => String(lanesOpen * POLLS_PER_LANE)),
    `per call, with its share of the run around it (flat: within ${FLAT}×):`,
    ofCall('statements', 'statements'),
    ofCall('commits', 'commits'),
    ofCall('WAL, KiB', 'wal', KIB),
    line('  whole pages in it', (_, call) => (call ? call.walPages.toFixed(2) : '–')),
    ofCall('history events', 'events'),
    ofCall('processor time, ms', 'cpuMs'),
    'idle, by the clock:',
    ...(['host', 'control', 'temporal', 'postgres'] as const).map((group) =>
      measuredLine(`${group}, cores`, ({ idle }) => ((idle.cpuMs[group] ?? 0) / idle.ms).toFixed(3)),
    ),
    measuredLine('commits a second', ({ idle }) => ((idle.commits / idle.ms) * 1_000).toFixed(1)),
    measuredLine('WAL a second, KiB', ({ idle }) => (((idle.wal / idle.ms) * 1_000) / KIB).toFixed(1)),
    'memory after the load, MiB:',
    ...(['host', 'control', 'temporal', 'postgres'] as const).map((group) =>
      measuredLine(group, ({ bytes }) => (bytes[group] / MIB).toFixed(0)),
    ),
    line('the machine under load, busy', ({ measured }) =>
      measured ? `${Math.round((measured.loaded.busyMs / measured.loaded.ms / cpus().length) * 100)} %` : '–',
    ),
    '',
  ].join('\n');
}

/** The largest figure over the smallest, and whether that is flat. */
function flatness(perCall: readonly (PerCall | undefined)[], key: keyof PerCall): string {
  const values = perCall.flatMap((call) => (call ? [call[key]] : []));
  if (values.length < 2) return '';
  if (Math.min(...values) <= 0) return 'not to be told from what is idle: load it for longer';
  const ratio = Math.max(...values) / Math.min(...values);
  return `${ratio.toFixed(2)}×: ${ratio <= FLAT ? 'flat' : 'NOT FLAT'}`;
}
