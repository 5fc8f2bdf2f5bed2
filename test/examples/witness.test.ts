import type { ExampleContext, JournaledWrite } from '../../tools/example';
import type { TicketCase } from '../../examples/support-desk/data';
import { account } from '../../examples/support-desk/scenarios/accounts';
import type { Handled } from '../../examples/support-desk/scenarios/runs';
import {
  stateDifferences,
  tracesOf,
  undoDifferences,
} from '../../examples/support-desk/scenarios/undo-witness';
import type { EffectRow, Stored } from '../../examples/support-desk/systems/store';

/** What the crash and rollback scenarios judge by, held against worlds in which something went wrong. */

const row = (seq: number, operation: string, key: string, more: Partial<EffectRow> = {}): EffectRow => ({
  seq,
  at: `2026-01-01T00:00:0${seq}.000Z`,
  account: 'acme-1',
  caller: 'acme-1',
  system: operation.startsWith('refund') ? 'payments' : 'helpdesk',
  operation,
  recordId: operation.startsWith('refund') ? 'pay_1' : 'TKT-1',
  reference: 'TKT-1',
  idempotencyKey: key,
  digest: '',
  token: '',
  body: {},
  puts: [],
  answer: { status: 200, body: {} },
  ...more,
});
const write = (path: string, state: JournaledWrite['state'] = 'succeeded'): JournaledWrite => ({
  runId: 'run-1',
  path,
  action: 'x.y',
  key: `k-${path}`,
  admittedAt: '',
  attempts: 1,
  state,
});

describe('the account of a crash', () => {
  const ticket = {
    record: { id: 'TKT-1' },
    expect: {
      suggested: [],
      effects: [
        { system: 'payments', operation: 'refund.create', recordId: 'pay_1' },
        { system: 'helpdesk', operation: 'ticket.update', recordId: 'TKT-1' },
      ],
    },
  } as unknown as TicketCase;
  const handled = [{ tenant: 'acme', ticket, runId: 'run-1' } as unknown as Handled];
  const judged = async (logged: readonly EffectRow[], writes: readonly JournaledWrite[], reviews = 0) => {
    const context = {
      model: () => undefined,
      writes: () => Promise.resolve(writes),
      openReviews: () =>
        Promise.resolve(
          Array.from({ length: reviews }, () => ({ runId: 'run-1', reviewNo: 1, action: 'x.y' })),
        ),
    } as unknown as ExampleContext;
    const { duplicates, lost, waiting, unlogged, unjournaled } = await account(
      context,
      'acme',
      handled,
      logged,
    );
    return [duplicates, lost, waiting, unlogged, unjournaled].map(({ length }) => length);
  };
  const both = [row(1, 'refund.create', 'k-1.1'), row(2, 'ticket.update', 'k-1.2')];
  const journaled = [write('1.1'), write('1.2')];

  it.each([
    ['all is well', both, journaled, 0, [0, 0, 0, 0, 0]],
    [
      'one change twice, under another key',
      [...both, row(3, 'refund.create', 'k-2.1')],
      journaled,
      0,
      [1, 0, 0, 0, 1],
    ],
    ['a key twice', [...both, row(3, 'refund.create', 'k-1.1')], journaled, 0, [1, 0, 0, 0, 0]],
    ['one change lost, and the journal believes in it', both.slice(0, 1), journaled, 0, [0, 1, 0, 1, 0]],
    ['one change that the journal does not know', both, journaled.slice(0, 1), 0, [0, 0, 0, 0, 1]],
    [
      'one that failed by the journal, and happened',
      both,
      [write('1.1'), write('1.2', 'failed')],
      0,
      [0, 0, 0, 0, 1],
    ],
    ['a review is open', both, journaled, 1, [0, 0, 1, 0, 0]],
  ] as const)('T3 %s', async (_what, logged, writes, reviews, counts) => {
    expect(await judged(logged, writes, reviews)).toEqual(counts);
  });
});

describe('the witness of an undo', () => {
  const forward = [
    row(1, 'refund.create', 'k-1.1'),
    row(2, 'reply.create', 'k-1.2'),
    row(3, 'ticket.update', 'k-1.3'),
  ];
  const undo = [row(4, 'ticket.update', 'k-1.3/undo'), row(5, 'refund.cancel', 'k-1.1/undo')];
  const writes = ['1.1', '1.2', '1.3', '1.3/undo', '1.1/undo'].map((path) => write(path));
  const wrong = (own: readonly EffectRow[]): number => undoDifferences(tracesOf(own, writes)).length;

  it('T5 the reverse order of what is not final, each once, is right; anything else is not', () => {
    expect(wrong([...forward, ...undo])).toBe(0);
    expect(wrong(forward)).toBe(1);
    expect(wrong([...forward, ...undo.slice(0, 1)])).toBe(1);
    expect(wrong([...forward, ...undo, row(6, 'refund.cancel', 'k-1.1/undo')])).toBe(1);
    const swapped = [row(4, 'refund.cancel', 'k-1.1/undo'), row(5, 'ticket.update', 'k-1.3/undo')];
    expect(wrong([...forward, ...swapped])).toBe(1);
    expect(wrong([...forward, ...undo, row(6, 'ticket.update', 'k-of-nobody')])).toBe(1);
  });

  it('T5 the systems read as before but for final changes and cancelled refunds', () => {
    const put = (collection: string, id: string) => ({
      puts: [{ collection, record: { id, account: 'acme-1' } }],
    });
    const made = [
      row(1, 'refund.create', 'k-1.1', {
        puts: [...put('payments', 'pay_1').puts, ...put('refunds', 'ref_1').puts],
      }),
      row(2, 'reply.create', 'k-1.2', put('tickets', 'TKT-1')),
    ];
    const traces = tracesOf(made, writes);
    const world = (more: Record<string, Record<string, unknown>>) =>
      new Map(
        Object.entries({
          'payments/payments/pay_1': { refundedCents: 0 },
          'helpdesk/tickets/TKT-1': { status: 'open', replies: [] },
          ...more,
        }).map(([name, record]): [string, Stored] => [name, { id: name, account: 'acme-1', ...record }]),
      );
    const differs = (more: Record<string, Record<string, unknown>>): number =>
      stateDifferences(world({}), world(more), traces).length;
    const undone = {
      'payments/refunds/ref_1': { status: 'cancelled' },
      'helpdesk/tickets/TKT-1': { status: 'open', replies: [{ kind: 'direct' }] },
    };
    expect(differs(undone)).toBe(0);
    expect(differs({ ...undone, 'payments/refunds/ref_1': { status: 'pending' } })).toBe(1);
    expect(differs({ ...undone, 'payments/payments/pay_1': { refundedCents: 5 } })).toBe(1);
    expect(differs({ ...undone, 'helpdesk/tickets/TKT-1': { status: 'solved', replies: [{}] } })).toBe(1);
    expect(differs({ ...undone, 'helpdesk/tickets/TKT-1': { status: 'open', replies: [{}, {}] } })).toBe(1);
    expect(differs({ 'helpdesk/tickets/TKT-1': undone['helpdesk/tickets/TKT-1'] })).toBe(1);
  });
});
