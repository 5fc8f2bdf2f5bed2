import { example } from '../../examples/support-desk/example';
import { effectsOutside } from '../../examples/support-desk/world';
import { deskContext } from './desk-context';
import { Processes } from './processes';

const processes = new Processes();
const stateDir = processes.folder('support-desk-');

beforeAll(() => example.start(context), 60_000);
const context = deskContext(stateDir, processes);
afterAll(() => processes.end());

const wrong = (rows: readonly { ok: boolean; tenant: string; note: string }[]): string[] =>
  rows.filter(({ ok }) => !ok).map(({ tenant, note }) => `${tenant} ${note}`);

describe('the support desk, its actions and policies against its real servers', () => {
  it('U4 every ticket ends as it says: each intended change once, each hostile order refused by its rule', async () => {
    const rows = await example.scenarios.main?.(context);
    expect(wrong(rows ?? [])).toEqual([]);
    expect(rows?.filter(({ run }) => run !== 'witness')).toHaveLength(90);
  }, 120_000);

  it('T2 the whole scenario again on the same state adds no change outside', async () => {
    const before = effectsOutside(stateDir).length;
    const rows = await example.scenarios.main?.(context);
    expect(wrong(rows ?? [])).toEqual([]);
    expect(effectsOutside(stateDir)).toHaveLength(before);
  }, 120_000);

  it('O1 the kill scenario: nothing after containment, others end right, acme works again; twice on one state', async () => {
    for (let round = 1; round <= 2; round += 1) {
      const rows = await example.scenarios.kill?.(context);
      expect(wrong(rows ?? [])).toEqual([]);
      expect(rows?.some(({ stopReason }) => stopReason === 'killed')).toBe(true);
    }
    expect(wrong((await example.scenarios.main?.(context)) ?? [])).toEqual([]);
  }, 120_000);
});
