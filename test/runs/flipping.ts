import type { CheckpointName } from '../../contracts/checkpoint';
import type { StopReason } from '../../contracts/states';
import type { TestStack } from '../support/stack';
import { policyYaml, tenantYaml } from '../support/tenants';
import { asksFor } from './approving';

/** What changes between the check of a call and its way out, for `flips.ts`. */

/** Places between the check of a call and its way out. */
export const FLIP_POINTS = [
  'decided',
  'claimed',
  'admitted',
  'leased',
  'before_send',
] as const satisfies CheckpointName[];
export type FlipPoint = (typeof FLIP_POINTS)[number];

const ALL = '  - { id: all, effect: allow, actions: ["*"] }';
const without = (action: string): string => `${ALL}\n  - { id: no, effect: forbid, actions: [${action}] }`;

/** What changes while a call is on its way, and what has to be true of the call then. */
export interface Flip {
  readonly name: string;
  readonly action: 'note.write' | 'record.read' | 'payment.send';
  /** Rules before the flip. */
  readonly rules: string;
  /** The call waits for a person first; the flip comes when it asks again, approved. Before that it does not ask. */
  readonly asksFirst?: true;
  /** The first request is lost, so that the call is let in anew, after the flip. */
  readonly lost?: true;
  /** Points at which it makes sense. */
  readonly at: readonly FlipPoint[];
  /** Resolves once what it changes is committed. */
  flip(ground: Ground): Promise<void>;
  /** Requests of the action that may arrive where the flip came before admission (`decided`), and after it. */
  readonly arrives: { readonly before: number; readonly after: number };
  /** How the run ends where the flip came before admission. */
  readonly ends?: StopReason;
}

interface Ground {
  readonly stack: TestStack;
  readonly tenant: string;
  readonly connections: { readonly keeper: string; readonly models: string };
}

const publish =
  (rules: string) =>
  ({ stack, tenant }: Ground): Promise<void> =>
    stack.apply(policyYaml(tenant, rules));
const rescope = ({ stack, tenant, connections }: Ground): Promise<void> =>
  stack.apply(tenantYaml({ name: tenant, ...connections, rules: ALL, account: 'acct_of_another' }));

const AFTER: readonly FlipPoint[] = ['claimed', 'admitted', 'leased', 'before_send'];

export const FLIPS: readonly Flip[] = [
  {
    name: 'policy forbids a write',
    action: 'note.write',
    rules: ALL,
    at: FLIP_POINTS,
    flip: publish(without('note.write')),
    arrives: { before: 0, after: 1 },
  },
  {
    name: 'policy allows a write',
    action: 'note.write',
    rules: without('note.write'),
    at: ['decided'],
    flip: publish(ALL),
    arrives: { before: 1, after: 1 },
  },
  {
    name: 'policy asks for approval of a write',
    action: 'payment.send',
    rules: ALL,
    at: FLIP_POINTS,
    flip: publish(asksFor('{ roles: [payer], expiresAfter: 1s }')),
    arrives: { before: 0, after: 1 },
    ends: 'approval_expired',
  },
  {
    name: 'policy only lets a write be suggested',
    action: 'payment.send',
    rules: ALL,
    at: FLIP_POINTS,
    flip: publish(`${ALL}\n  - { id: ideas, effect: suggest, actions: [payment.send] }`),
    arrives: { before: 0, after: 1 },
  },
  {
    name: 'policy forbids a read whose first request is lost',
    action: 'record.read',
    rules: ALL,
    lost: true,
    at: AFTER,
    flip: publish(without('record.read')),
    arrives: { before: 0, after: 1 },
  },
  {
    name: 'scope loses the account of a record',
    action: 'note.write',
    rules: ALL,
    at: FLIP_POINTS,
    flip: rescope,
    arrives: { before: 0, after: 1 },
  },
  {
    name: 'scope loses the account of a read whose first request is lost',
    action: 'record.read',
    rules: ALL,
    lost: true,
    at: AFTER,
    flip: rescope,
    arrives: { before: 0, after: 1 },
  },
  {
    name: 'approval: other people are asked by now',
    action: 'payment.send',
    rules: asksFor(),
    asksFirst: true,
    at: FLIP_POINTS,
    flip: publish(asksFor('{ roles: [auditor], expiresAfter: 1s }')),
    arrives: { before: 0, after: 1 },
    ends: 'approval_expired',
  },
  {
    name: 'approval: another rule asks as well',
    action: 'payment.send',
    rules: asksFor(),
    asksFirst: true,
    at: FLIP_POINTS,
    flip: publish(
      asksFor(
        '{ roles: [payer], expiresAfter: 1s }',
        '\n  - { id: second, effect: approve, actions: [payment.send], approvers: { roles: [payer, auditor], expiresAfter: 1s } }',
      ),
    ),
    arrives: { before: 0, after: 1 },
    ends: 'approval_expired',
  },
  {
    name: 'approval: forbidden after all',
    action: 'payment.send',
    rules: asksFor(),
    asksFirst: true,
    at: FLIP_POINTS,
    flip: publish(asksFor('{ roles: [payer] }', '\n  - { id: no, effect: forbid, actions: [payment.send] }')),
    arrives: { before: 0, after: 1 },
  },
];

/** One flip at one point. */
export interface Trial {
  readonly flip: Flip;
  readonly point: FlipPoint;
}

/** So many trials, the same number of every flip at each of its points as far as it goes. */
export function trials(count: number): Trial[] {
  const all = FLIPS.flatMap((flip) => flip.at.map((point) => ({ flip, point })));
  return Array.from({ length: count }, (_each, index) => all[index % all.length]!);
}
