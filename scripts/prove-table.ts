import { chaos } from '../test/chaos/core';
import { wireFaults } from '../test/chaos/wire';
import { hostile, notHeld, notShown } from '../test/hostile/core';
import type { Arm } from '../test/hostile/tenants';
import { BINDING, quotaRace, unbound } from '../test/ledger/quota-race';
import { flips } from '../test/runs/flips';
import { trials } from '../test/runs/flipping';
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
const FLIPS = { seed: 0, trials: 1_000, lanes: 6 } as const;
const HOSTILE = { seed: 2_026, episodes: 600, withoutPolicy: 120 } as const;
const QUOTAS = {
  seed: 2_026,
  reservations: 20_000,
  processes: 3,
  lanes: 6,
  kills: 20,
  fences: 3,
  limitChanges: 60,
} as const;
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
  {
    name: 'flips',
    promises: ['P4', 'P10'],
    says: 'policy, approval and scope changed exactly between check and send, at each named place: nothing is decided by the old state after the change was committed',
    seed: FLIPS.seed,
    options: FLIPS,
    async run(temporal) {
      const progress = progressOf('flips');
      const database = await startCrashableDatabase();
      try {
        const report = await flips(trials(FLIPS.trials), {
          lanes: FLIPS.lanes,
          stack: { temporal, database: database.database },
          onProgress: (done) => progress.at(done, FLIPS.trials),
        });
        return { holds: report.breaches.length === 0, postgres: database.version, figures: report };
      } finally {
        progress.end();
        await database.stop();
      }
    },
  },
  {
    name: 'quotas',
    promises: ['Q1', 'Q2', 'Q6'],
    says: 'reservations race at caps on every layer, by agent and action too, while processes are killed, connections cut, lost attempts reaped, fences raised and limits changed: overspend 0, leaked 0, replaying the journal gives the counters exactly; the same judge finds overspend where each cap is said to have been one lower',
    seed: QUOTAS.seed,
    options: QUOTAS,
    async run() {
      const progress = progressOf('quotas');
      const database = await startCrashableDatabase();
      try {
        const onProgress = (done: number): void => progress.at(done, QUOTAS.reservations);
        const report = await quotaRace({ ...QUOTAS, database: database.database, onProgress });
        const notShown = unbound(report, BINDING);
        const holds =
          report.breaches.length === 0 &&
          report.overspend === 0 &&
          report.leaked === 0 &&
          report.judgedTighter > 0 &&
          notShown.length === 0;
        return { holds, postgres: database.version, figures: { notShown, ...report } };
      } finally {
        progress.end();
        await database.stop();
      }
    },
  },
  {
    name: 'hostile-model',
    promises: ['P1', 'P2', 'P3', 'P4', 'P7', 'P8', 'E1'],
    says: 'hostile models over the attack table: no effect outside that policy does not want, 95 % of the honest tasks beside them done, endless ones stopped; without policy each attack that policy alone stops succeeds',
    seed: HOSTILE.seed,
    options: HOSTILE,
    async run(temporal) {
      const { seed, episodes, withoutPolicy } = HOSTILE;
      const progress = progressOf('hostile models');
      const play = async (arm: Arm, count: number, before: number) => {
        const database = await startCrashableDatabase();
        try {
          const onProgress = (done: number): void => progress.at(before + done, episodes + withoutPolicy);
          const parts = { temporal, database: database.database };
          const report = await hostile(parts, { seed, episodes: count, arm, onProgress });
          return { report, postgres: database.version };
        } finally {
          await database.stop();
        }
      };
      try {
        const { report: policy, postgres } = await play('policy', episodes, 0);
        const { report: control } = await play('none', withoutPolicy, episodes);
        const broken = [...notHeld(policy), ...notShown(control)];
        const holds = broken.length === 0 && notHeld(control).length > 0;
        return { holds, postgres, figures: { broken, policy, control } };
      } finally {
        progress.end();
      }
    },
  },
];
