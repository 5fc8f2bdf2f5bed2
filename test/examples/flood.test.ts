import { parseDocuments } from '../../policy/documents';
import type { RunReport } from '../../tools/example';
import { quotaClassText } from '../../examples/support-desk/data';
import {
  durations,
  MOST_SLOWDOWN,
  paceRow,
  queueRow,
  statesOf,
} from '../../examples/support-desk/scenarios/flood-witness';

/** What the flood scenario judges by, held against floods that went another way. */

const report = (state: RunReport['state'], tookMs?: number): RunReport =>
  ({
    runId: 'run-1',
    state,
    acceptedAt: '2026-01-01T00:00:00.000Z',
    closedAt: tookMs === undefined ? null : new Date(Date.parse('2026-01-01') + tookMs).toISOString(),
  }) as RunReport;

describe('the pace of a neighbour', () => {
  const calm = [900, 1_000, 1_100];
  const times = (by: number): number[] => calm.map((ms) => ms * by);

  it('N6 is kept up to the bound, and both figures are said', () => {
    const row = paceRow('acme', calm, times(MOST_SLOWDOWN));
    expect(row.ok).toBe(true);
    expect(row.note).toMatch(/median of 3 runs 1\.00 s before, of 3 during the flood 1\.50 s: 1\.50 times/);
  });

  it.each([
    ['is not kept beyond it', calm, times(MOST_SLOWDOWN + 0.01)],
    ['is not known where a run did not end', calm, [1_000, 1_000]],
    ['is not known of no runs at all', [], []],
  ])('N6 %s', (_what, before, during) => {
    expect(paceRow('acme', before, during).ok).toBe(false);
  });

  it('N6 is taken from acceptance to the end, of runs that ended', () => {
    expect(durations([report('closed', 1_500), report('queued'), undefined])).toEqual([1_500]);
  });
});

describe('the line of the tenant that floods', () => {
  const flood = (queued: number, running: number) =>
    statesOf([
      ...Array.from({ length: queued }, () => report('queued')),
      ...Array.from({ length: running }, () => report('running')),
      report('closed', 1),
      report('accepted'),
    ]);

  it('N1 stands all the while, with no more runs at work than may be', () => {
    const row = queueRow([flood(100, 2), flood(150, 1)], 2);
    expect(row.ok).toBe(true);
    expect(row.note).toBe(
      '1 accepted, 1 closed, 100 queued, 2 running; then 1 accepted, 1 closed, 150 queued, 1 running',
    );
  });

  it.each([
    ['one run too many holds a slot', [flood(100, 2), flood(100, 3)]],
    ['it was gone before the neighbours were done', [flood(100, 2), flood(0, 2)]],
    ['nobody looked', []],
  ])('N1 %s: not as promised', (_what, moments) => {
    expect(queueRow(moments, 2).ok).toBe(false);
  });
});

describe('the class that globex floods under', () => {
  it.each([
    ['its own', undefined],
    ['one with few runs at work', '{ toolCallsPerDay: 20000, concurrentRuns: 2 }'],
  ])('Q6 is %s, and a document of its own', (_what, limits) => {
    const parsed = parseDocuments(quotaClassText('globex', limits));
    expect(parsed.ok && parsed.documents.map(({ kind, document }) => [kind, document.metadata.name])).toEqual(
      [['QuotaClass', 'standard']],
    );
    const [document] = parsed.ok ? parsed.documents : [];
    const concurrentRuns = document?.kind === 'QuotaClass' && document.document.limits.concurrentRuns;
    expect(concurrentRuns).toBe(limits === undefined ? 50 : 2);
  });
});
