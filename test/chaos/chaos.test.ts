import { CHECKPOINTS } from '../../contracts/checkpoint';
import { testTemporal } from '../support/shared-temporal';
import { chaos, planOf } from './core';

const PROMISED = { seed: 7, writes: 200, kills: 20, dbCrashes: 4 };

describe('writes while workers are killed and the database is crashed', () => {
  it('T3 the same seed plans the same calls, places and moments; another seed others', () => {
    expect(planOf(PROMISED)).toEqual(planOf(PROMISED));
    expect(planOf({ ...PROMISED, seed: 8 }).digest).not.toBe(planOf(PROMISED).digest);
    expect(planOf(PROMISED).kills).toHaveLength(20);
  });

  it('T3 200 writes under 20 kills and 4 database crashes: none twice, none lost, journal and outside logs equal both ways, every named place hit', async () => {
    const report = await chaos(testTemporal(), PROMISED);
    expect(report.breaches).toEqual([]);
    expect(report.writes).toMatchObject({ intended: 200, duplicates: 0, lost: 0 });
    expect(report.writes.effects).toBe(report.writes.expectedEffects);
    expect(report.journal.successes).toBe(report.writes.effects);
    expect(Object.keys(report.kills.byPoint).sort()).toEqual(Object.keys(CHECKPOINTS).sort());
    expect(report.kills.done).toBeGreaterThanOrEqual(20);
    expect(report.databaseCrashes.done).toBe(4);
  }, 600_000);

  it('T3 without idempotency the same harness finds duplicates', async () => {
    const report = await chaos(testTemporal(), {
      seed: 7,
      writes: 40,
      kills: 4,
      dbCrashes: 0,
      without: 'idempotency',
      limitMs: 240_000,
    });
    expect(report.writes.duplicates).toBeGreaterThan(0);
    expect(report.breaches).toContain(`${report.writes.duplicates} duplicate effects`);
  }, 400_000);
});
