import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { JournaledWrite } from '../../../tools/example';
import type { EffectRow, Stored } from '../systems/store';

/** Changes that stay when a run is undone, as the actions declare it. */
const FINAL = ['reply.create', 'message.send'];

/** What a run has done outside, taken apart by the keys that the journal knows. */
export interface Traces {
  /** In the order in which they were made. */
  readonly forward: readonly EffectRow[];
  readonly undo: readonly EffectRow[];
  /** Final ones among `forward`. */
  readonly left: readonly EffectRow[];
  /** Under no key of the run. */
  readonly strange: readonly EffectRow[];
}

export function tracesOf(own: readonly EffectRow[], writes: readonly JournaledWrite[]): Traces {
  const pathOf = new Map(writes.map(({ key, path }) => [key, path]));
  const inOrder = [...own].sort((a, b) => a.at.localeCompare(b.at) || a.seq - b.seq);
  const path = ({ idempotencyKey }: EffectRow): string | undefined => pathOf.get(String(idempotencyKey));
  const forward = inOrder.filter((row) => path(row)?.endsWith('/undo') === false);
  return {
    forward,
    undo: inOrder.filter((row) => path(row)?.endsWith('/undo')),
    left: forward.filter(({ operation }) => FINAL.includes(operation)),
    strange: inOrder.filter((row) => path(row) === undefined),
  };
}

/** What is wrong with an undo: an order that is not the reverse, one undone twice or not at all, a stranger's change. */
export function undoDifferences({ forward, undo, left, strange }: Traces): string[] {
  const wanted = forward.filter((row) => !left.includes(row)).reverse();
  const place = ({ system, recordId }: EffectRow): string => `${system} ${recordId}`;
  return [
    ...(isDeepStrictEqual(wanted.map(place), undo.map(place))
      ? []
      : [
          `undone: ${undo.map(place).join(', ') || 'nothing'}; to be undone: ${wanted.map(place).join(', ') || 'nothing'}`,
        ]),
    ...strange.map((row) => `${place(row)} was changed by no call of the run`),
  ];
}

const Replies = z.array(z.unknown());

/**
 * How the systems differ from before, in words; empty where all is as it was. Final changes of the run, which stay, are no
 * difference, and neither is a refund in the books that is cancelled: that is the trace that a compensation leaves.
 */
export function stateDifferences(
  before: ReadonlyMap<string, Stored>,
  after: ReadonlyMap<string, Stored>,
  { forward, left }: Traces,
): string[] {
  const touched = forward.flatMap(({ system, puts }) =>
    puts.map(({ collection, record }) => ({ name: `${system}/${collection}/${record.id}`, collection })),
  );
  const repliesLeft = left.filter(({ operation }) => operation === 'reply.create').length;
  const mails = new Set(left.flatMap(({ puts }) => puts.map(({ record }) => record.id)));
  return [...new Map(touched.map((one) => [one.name, one])).values()].flatMap(({ name, collection }) => {
    const was = before.get(name);
    const is = after.get(name);
    if (!is) return [`${name} is gone`];
    if (!was) {
      const trace = collection === 'refunds' ? is.status === 'cancelled' : mails.has(is.id);
      return trace ? [] : [`${name} was not there before`];
    }
    return sameButFor(was, is, repliesLeft) ? [] : [`${name}: ${fieldsThatDiffer(was, is).join(', ')}`];
  });
}

function fieldsThatDiffer(was: Stored, is: Stored): string[] {
  return [...new Set([...Object.keys(was), ...Object.keys(is)])]
    .filter((field) => !isDeepStrictEqual(was[field], is[field]))
    .map((field) => `${field} was ${JSON.stringify(was[field])} and is ${JSON.stringify(is[field])}`);
}

function sameButFor(was: Stored, is: Stored, moreReplies: number): boolean {
  if (isDeepStrictEqual(was, is)) return true;
  const [earlier, now] = [Replies.safeParse(was.replies).data, Replies.safeParse(is.replies).data];
  if (!earlier || now?.length !== earlier.length + moreReplies) return false;
  return isDeepStrictEqual({ ...was, replies: earlier }, { ...is, replies: now.slice(0, earlier.length) });
}

/** A run's changes as lines for whoever watches: made, undone, left. */
export function linesOf({ forward, undo, left }: Traces): string[] {
  const line = (what: string, row: EffectRow): string =>
    `  ${what}  ${row.at.slice(11, 23)}  ${row.system.padEnd(8)}  ${row.operation.padEnd(15)}  ${row.recordId}  ${shown(row)}`;
  return [
    ...forward.map((row) => line('made', row)),
    ...undo.map((row) => line('undo', row)),
    ...left.map((row) => line('left', row)),
  ];
}

/** What a change made of its record. */
function shown({ operation, puts, body }: EffectRow): string {
  const record: Readonly<Record<string, unknown>> = puts[0]?.record ?? {};
  const asked = z
    .looseObject({ field: z.string().optional(), kind: z.string().optional() })
    .safeParse(body).data;
  switch (operation) {
    case 'customer.update':
      return `${asked?.field ?? '?'}: ${String(record[asked?.field ?? ''])}`;
    case 'refund.create':
    case 'refund.cancel':
      return `refunded so far: ${String(record.refundedCents)} cents`;
    case 'ticket.update':
      return `status: ${String(record.status)}`;
    case 'reply.create':
      return `a ${asked?.kind ?? '?'} answer`;
    case 'message.send':
      return `to ${String(record.to)}`;
    default:
      return '';
  }
}
