import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { LEASE_MARGIN_MS } from '../../activities/attempt';
import { digestOf } from '../../contracts/digest';
import { startFaultyWire, type WireFault, type WireRequest } from '../support/faulty-wire';
import { startModel } from '../support/model';
import type { TestTemporal } from '../support/shared-temporal';
import { createTestStack } from '../support/stack';
import type { TestDatabase } from '../support/database';
import { app, TIMEOUT_MS } from './app';
import { compareBooks } from './books';
import { openRuns, restOf, startRuns } from './ground';
import { dice, planChaos } from './plan';
import { countWrites, type WriteCount } from './report';
import { resolveReviews, type Reviewed } from './reviewer';
import { chaosScript } from './script';
import { startSystems, type ChaosEffect } from './systems';
import { witnessOf } from './witness';

export interface WireOptions {
  readonly seed: number;
  readonly writes: number;
  /** Of a hundred writes, how many meet a fault. */
  readonly faultsPercent?: number;
  readonly onProgress?: (effects: number, expected: number) => void;
  readonly limitMs?: number;
}

/** What a network that drops, resets, stalls, doubles and delays led to. Any `breaches` and it has failed. */
export interface WireReport {
  readonly seed: number;
  readonly writes: WriteCount;
  /** Requests that met each fault, by the kind of system. */
  readonly faults: Readonly<Record<string, Partial<Record<WireFault, number>>>>;
  /** Writes to the blind system that were sent again without a person's word that they had not happened. */
  readonly blindResends: number;
  readonly unknown: { readonly reviews: number } & Reviewed;
  readonly journal: {
    readonly successes: number;
    readonly withoutEffect: number;
    readonly withoutSuccess: number;
  };
  readonly durationMs: number;
  readonly breaches: readonly string[];
}

/** Past the lease of the attempt that sent it, and before the end of `visibleWithin`. */
const DELAY_MS = TIMEOUT_MS + LEASE_MARGIN_MS + 500;
const TENANTS = ['wire-1', 'wire-2'];

/** A system without keys runs whatever arrives: a network that doubles a request doubles its effect, whoever sent it. */
const FAULTS: Record<ChaosEffect['kind'], readonly WireFault[]> = {
  keyed: ['drop_reply', 'reset_before', 'stall', 'duplicate', 'delay'],
  undo: ['drop_reply', 'reset_before', 'stall', 'duplicate', 'delay'],
  looked: ['drop_reply', 'reset_before', 'stall', 'delay'],
  blind: ['drop_reply', 'reset_before', 'stall', 'delay'],
};

/** Does planned writes through a faulty wire until every run is closed; then counts at the systems behind it. */
export async function wireFaults(
  ground: { temporal?: Pick<TestTemporal, 'address' | 'bundlePath'>; database?: TestDatabase },
  options: WireOptions,
): Promise<WireReport> {
  const started = performance.now();
  const plan = planChaos({
    seed: options.seed,
    writes: options.writes,
    kills: 0,
    dbCrashes: 0,
    tenants: TENANTS,
    hosts: 1,
    continueAfter: 20,
    kinds: ['keyed', 'looked', 'blind'],
  });
  const ending: (() => Promise<unknown>)[] = [];
  try {
    const systems = await startSystems();
    ending.push(() => systems.close());
    const wire = await startFaultyWire(systems.url, { delayMs: DELAY_MS, fault: faultsOf(options) });
    ending.push(() => wire.close());
    const model = await startModel(chaosScript);
    ending.push(() => model.close());
    const stack = await createTestStack({ app, ...ground, bounds: { maxMisbehaviour: 1 } });
    ending.push(() => stack.close());
    const witness = witnessOf(stack.database.adminUrl);
    const runs = await startRuns({ stack, systems, model, plan, tenants: TENANTS, keeper: wire.url });

    const reviewed: Reviewed = { happened: 0, didNotHappen: 0 };
    const notHappened = new Map<string, number>();
    const onTheWay = (intent: string): boolean =>
      wire.passed.some(
        (request) =>
          request.fault === 'delay' &&
          request.at > Date.now() - DELAY_MS - 500 &&
          intentOf(request) === intent,
      );
    const end = Date.now() + (options.limitMs ?? 240_000 + options.writes * 400);
    const { expectedEffects } = countWrites(plan, systems);
    let open: string[] | undefined;
    while (Date.now() < end) {
      const left = await resolveReviews(stack, systems, runs, TENANTS, reviewed, onTheWay, (intent) =>
        notHappened.set(intent, (notHappened.get(intent) ?? 0) + 1),
      );
      open = await openRuns(witness, stack);
      options.onProgress?.(systems.effects.length, expectedEffects);
      if (left === 0 && open?.length === 0) break;
      await sleep(200);
    }
    // What was delayed arrives before anything is counted.
    while (wire.held > 0) await sleep(100);
    await sleep(200);

    const writes = countWrites(plan, systems);
    const books = await compareBooks(stack, witness, TENANTS, systems.effects);
    const rest = await restOf(witness, stack);
    const faults: Record<string, Partial<Record<WireFault, number>>> = {};
    const blindSends = new Map<string, number>();
    for (const request of wire.passed) {
      const kind = kindOf(request);
      const counted = (faults[kind] ??= {});
      counted[request.fault] = (counted[request.fault] ?? 0) + 1;
      if (kind === 'blind') {
        const intent = intentOf(request);
        blindSends.set(intent, (blindSends.get(intent) ?? 0) + 1);
      }
    }
    const blindResends = [...blindSends].filter(
      ([intent, sends]) => sends > 1 + (notHappened.get(intent) ?? 0),
    ).length;
    const checks: [boolean, string][] = [
      [writes.duplicates > 0, `${writes.duplicates} duplicate effects`],
      [writes.lost > 0, `${writes.lost} writes lost`],
      [writes.undone < writes.undoExpected, `${writes.undoExpected - writes.undone} writes not undone once`],
      [blindResends > 0, `${blindResends} blind writes sent again on nobody's word`],
      [books.withoutEffect.length > 0, `done in the journal, not outside: ${books.withoutEffect.join(', ')}`],
      [
        books.withoutSuccess.length > 0,
        `done outside, not in the journal: ${books.withoutSuccess.join(', ')}`,
      ],
      [open?.length !== 0, `runs not closed in time: ${open?.slice(0, 5).join('; ')}`],
      [rest.inflight !== 0 || rest.claimed !== 0, 'slots or claims are left'],
    ];
    return {
      seed: options.seed,
      writes,
      faults,
      blindResends,
      unknown: { reviews: rest.reviews, ...reviewed },
      journal: {
        successes: books.successes,
        withoutEffect: books.withoutEffect.length,
        withoutSuccess: books.withoutSuccess.length,
      },
      durationMs: Math.round(performance.now() - started),
      breaches: checks.flatMap(([broken, words]) => (broken ? [words] : [])),
    };
  } finally {
    for (const close of ending.reverse()) await close();
  }
}

const kindOf = ({ line }: WireRequest): ChaosEffect['kind'] =>
  (/^\S+ \/[^/]+\/([a-z]+)/.exec(line)?.[1] ?? 'keyed') as ChaosEffect['kind'];
const intentOf = ({ line, body }: WireRequest): string =>
  line.startsWith('GET')
    ? (new URL(line.slice(4), 'http://wire').searchParams.get('intent') ?? '')
    : (JSON.parse(body) as { intent: string }).intent;

/**
 * Drawn from the seed and the intent alone: the first request of a write may meet a fault, and its second too. Of the
 * look-ups some lose their answer, so that a lost write is looked up in vain.
 */
function faultsOf({ seed, faultsPercent = 35 }: WireOptions): (request: WireRequest) => WireFault {
  const seen = new Map<string, number>();
  return (request) => {
    const kind = kindOf(request);
    const name = `${request.line} ${intentOf(request)}`;
    const turn = seen.get(name) ?? 0;
    seen.set(name, turn + 1);
    const random = dice(Number.parseInt(digestOf([seed, name, turn]).slice(0, 8), 16));
    if (request.line.startsWith('GET')) return random.below(100) < 15 ? 'drop_reply' : 'pass';
    if (turn > 1 || random.below(100) >= (turn === 0 ? faultsPercent : 20)) return 'pass';
    return random.of(FAULTS[kind]);
  };
}
