import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { showProgress } from '../client/cli/progress';
import { createHosts, type Hosts } from './hosts';
import { applyClasses, createTenants, loadApp } from './load-app';
import { LANES, type Arm, type Kind } from './noisy-kinds';
import { minutesOf, noisyOptions, roundsOf, spellsOf, type NoisyOptions } from './noisy-options';
import { noisyReport } from './noisy-report';
import { spell, type Ground, type Spell } from './noisy-spell';
import { startOutside } from './outside';
import { startBenchStack, type BenchStack } from './stack';

/** Between two spells: what a queue still holds of the last one is dropped meanwhile. */
const PAUSE_MS = 1_000;
const WARM_SECONDS = 1;
const LANES_OPEN_MS = 120_000;

/**
 * What victims notice of a neighbour (promise N6): their calls come at fixed times, whatever becomes of them, beside a tenant that
 * offers a hundred times as many, of one kind or another. All arms are measured in turns, in an order that changes from round to
 * round, and each round is on a stack of its own: none is measured on servers that others have filled for an hour. Latency is from
 * the time that a call was meant to start to its end in the history.
 */
export async function noisyNeighbour(args: readonly string[]): Promise<void> {
  const options = noisyOptions(args);
  const rounds = roundsOf(options);
  const spells = spellsOf(options);
  say(
    `${spells.length} arms × ${rounds.count} rounds of ${rounds.seconds} s: about ${Math.ceil(minutesOf(options))} min`,
  );
  const bar = showProgress('noisy-neighbour', 'spells', rounds.count * spells.length);
  let enough = false;
  process.on('SIGINT', () => {
    if (enough) process.exit(130);
    enough = true;
    say('interrupted: ends after this spell, with what was measured so far; once more ends at once');
  });
  const measured: Spell[] = [];
  let versions: BenchStack['versions'] | undefined;
  try {
    for (let round = 0; round < rounds.count; round += 1) {
      await onFreshGround(options, async (ground) => {
        versions = ground.stack.versions;
        for (const each of inTurn(spells, round)) {
          if (enough) return;
          await sleep(PAUSE_MS);
          measured.push(await spell(ground, each, { round, seconds: rounds.seconds }));
          bar.at(measured.length);
        }
      });
      if (enough) break;
      keep(options, versions, measured);
      if (!process.stderr.isTTY) say(`round ${round + 1} of ${rounds.count} is over`);
    }
  } finally {
    bar.end();
    // Of a round that was not ended some arms would have more samples than others.
    if (measured.length > spells.length) measured.splice(measured.length - (measured.length % spells.length));
    // Also where it was broken off: hours of figures are not to be lost with the last one.
    if (versions && measured.length > 0) {
      process.stdout.write(noisyReport(options, versions, measured));
      keep(options, versions, measured);
    }
  }
}

function keep(
  { json, ...options }: NoisyOptions,
  versions: BenchStack['versions'] | undefined,
  measured: readonly Spell[],
): void {
  if (json !== undefined) writeFileSync(json, JSON.stringify({ options, versions, measured }));
}

/** Starts servers, hosts, and the system outside; creates the tenants of all arms; ends all of it when the work is done. */
async function onFreshGround(options: NoisyOptions, work: (ground: Ground) => Promise<void>): Promise<void> {
  const outside = await startOutside();
  const stack = await startBenchStack(loadApp);
  const hosts = await createHosts(stack);
  try {
    await place(stack, hosts, options, outside.url);
    const ground: Ground = {
      stack,
      outside,
      options,
      groups: {
        hosts: () => hosts.pids(),
        temporal: () => [stack.pids.temporal],
        postgres: () => [stack.pids.postgres],
      },
    };
    // Connections, plans, caches and compiled policies are warm by then.
    for (const each of warmingOf(options)) await spell(ground, each, { round: -1, seconds: WARM_SECONDS });
    await work(ground);
  } finally {
    await hosts.stop();
    await stack.close();
    await outside.close();
  }
}

/** One spell of each arm, beside its first neighbour. */
function warmingOf(options: NoisyOptions): { arm: Arm; kind: Kind | null }[] {
  const spells = spellsOf(options);
  return options.arms.flatMap((arm) => spells.find((each) => each.arm === arm) ?? []);
}

const say = (line: string): void => void process.stderr.write(`${line}\n`);

/**
 * Every second round goes backwards, and each pair of rounds begins elsewhere: over an even number of rounds each arm comes as
 * late after a fresh start, on the average, as any other.
 */
export function inTurn<T>(arms: readonly T[], round: number): T[] {
  const from = (Math.floor(round / 2) * 3) % arms.length;
  const turned = [...arms.slice(from), ...arms.slice(0, from)];
  return round % 2 === 0 ? turned : turned.reverse();
}

/** Tenants of every arm, and the hosts that serve them. */
async function place(stack: BenchStack, hosts: Hosts, options: NoisyOptions, outside: string): Promise<void> {
  const { arms, kinds, slots, ceiling } = options;
  await applyClasses(
    stack,
    (['own', 'shared', 'dedicated'] as const).map((lane) => ({
      name: `load-${lane}`,
      lane,
      callsInFlight: ceiling,
      workerCeiling: ceiling,
    })),
  );
  let ownLanes = 0;
  for (const arm of lanesOf(arms)) {
    const [ofVictims, ofNeighbour] = LANES[arm];
    const victims = Array.from({ length: options.victims }, (_, index) => `${arm}-victim-${index}`);
    const neighbours = kinds.map((kind) => `${arm}-${kind}`);
    await createTenants(stack, victims, { quotaClass: `load-${ofVictims}`, outside });
    await createTenants(stack, neighbours, { quotaClass: `load-${ofNeighbour}`, outside });
    ownLanes += (ofVictims === 'own' ? victims.length : 0) + (ofNeighbour === 'own' ? neighbours.length : 0);
    if (arm === 'shared') ownLanes += 1;
    if (arm === 'dedicated')
      for (const tenantId of victims)
        await hosts.start({ role: 'lane', hostId: `for-${tenantId}`, tenantId });
  }
  if (arms.includes('unprotected')) await hosts.start({ role: 'raw', hostId: 'raw', slots, outside });
  await hosts.start({ role: 'control', hostId: 'control' });
  const host = await hosts.start({ role: 'lanes', hostId: 'host', lanes: { sharedCalls: slots } });
  const deadline = Date.now() + LANES_OPEN_MS;
  while (host.lanesOpen() < ownLanes) {
    if (Date.now() > deadline) throw new Error(`${host.lanesOpen()} of ${ownLanes} lanes are open`);
    await sleep(100);
  }
}

/** The arms whose tenants there have to be. */
const lanesOf = (arms: readonly Arm[]): (keyof typeof LANES)[] => [
  'own',
  ...(['shared', 'dedicated'] as const).filter((arm) => arms.includes(arm)),
];
