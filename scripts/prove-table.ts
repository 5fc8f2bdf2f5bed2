import { chaos } from '../test/chaos/core';
import { wireFaults } from '../test/chaos/wire';
import { startCrashableDatabase } from '../test/support/crashable-database';
import type { TestTemporal } from '../test/support/shared-temporal';
import { progressOf } from './proof-ground';

/** A promise measured at its full size. */
export interface Proof {
  /** Of its file in docs/proofs. */
  readonly name: string;
  readonly promises: readonly string[];
  /** What it does and when it holds, in words. */
  readonly says: string;
  readonly seed: number;
  readonly options: Readonly<Record<string, unknown>>;
  run(temporal: TestTemporal): Promise<{
    readonly holds: boolean;
    readonly postgres: string;
    readonly figures: object;
  }>;
}

const CHAOS = { seed: 2_026, writes: 1_000, kills: 100, dbCrashes: 20 } as const;
const CONTROL = { seed: 2_026, writes: 200, kills: 40, dbCrashes: 0, without: 'idempotency' } as const;
const WIRE = { seed: 2_026, writes: 1_000, faultsPercent: 35 } as const;

/** Every proof of `npm run prove`, in its order. A new long suite is one more row. */
export const PROOFS: readonly Proof[] = [
  {
    name: 'chaos',
    promises: ['T2', 'T3', 'T5', 'O2'],
    says: 'writes under kills at every named place and under crashes of the database: none twice, none lost, journal and outside logs equal both ways',
    seed: CHAOS.seed,
    options: CHAOS,
    async run(temporal) {
      const progress = progressOf('chaos');
      const report = await chaos(temporal, {
        ...CHAOS,
        onProgress: ({ effects, expected, kills, crashes }) =>
          progress.at(effects, expected, `· ${kills} kills · ${crashes} crashes`),
      }).finally(() => progress.end());
      return { holds: report.breaches.length === 0, postgres: report.postgres, figures: report };
    },
  },
  {
    name: 'chaos-without-idempotency',
    promises: ['T3'],
    says: 'the control arm: the same harness finds duplicates where claims are forgotten and no system honours a key',
    seed: CONTROL.seed,
    options: CONTROL,
    async run(temporal) {
      const progress = progressOf('without idempotency');
      const report = await chaos(temporal, {
        ...CONTROL,
        onProgress: ({ effects, expected }) => progress.at(effects, expected),
      }).finally(() => progress.end());
      return { holds: report.writes.duplicates > 0, postgres: report.postgres, figures: report };
    },
  },
  {
    name: 'wire-faults',
    promises: ['T3'],
    says: 'writes through a network that drops replies, resets, stalls, doubles and delays past the lease: no blind second write, each unknown in review, each resolved',
    seed: WIRE.seed,
    options: WIRE,
    async run(temporal) {
      const progress = progressOf('wire faults');
      const database = await startCrashableDatabase();
      try {
        const report = await wireFaults(
          { temporal, database: database.database },
          { ...WIRE, onProgress: (effects, expected) => progress.at(effects, expected) },
        );
        return { holds: report.breaches.length === 0, postgres: database.version, figures: report };
      } finally {
        progress.end();
        await database.stop();
      }
    },
  },
];
