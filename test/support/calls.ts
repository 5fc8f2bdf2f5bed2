import { randomUUID } from 'node:crypto';
import { digestOf } from '../../contracts/digest';
import type { AdmitRequest, SettleRequest } from '../../contracts/ledger';

/** What a gateway asks of the ledger, for tests that ask it themselves. */

/** For how long an admitted call may act, milliseconds. */
export const LEASE_MS = 10_000;

type Asked = Pick<AdmitRequest, 'runId' | 'path' | 'temporalRunId' | 'decidedBy'>;

/** A write that policy allows, on a system that honours keys; `change` is what the test is about. */
export const admissionOf = (of: Asked, change: Partial<AdmitRequest> = {}): AdmitRequest => ({
  ...of,
  digest: digestOf(of.path),
  action: 'ticket.update',
  callClass: 'write',
  system: 'helpdesk',
  token: randomUUID(),
  hostId: 'host-1',
  verdict: { effect: 'allow', rules: ['update-ticket'] },
  decided: null,
  leaseMs: LEASE_MS,
  keyValidMs: 86_400_000,
  seenSeq: 0,
  reserve: { toolCalls: 1, steps: 1, microUsd: 0, modelTokens: 0 },
  capability: null,
  reversible: 'compensable',
  undoOf: null,
  pastFence: false,
  account: digestOf('account'),
  ...change,
});

/** Its success, at the cost that was reserved. */
export const settlementOf = (of: AdmitRequest, change: Partial<SettleRequest> = {}): SettleRequest => ({
  runId: of.runId,
  path: of.path,
  token: of.token,
  result: 'succeeded',
  charge: {
    toolCalls: of.reserve.toolCalls,
    microUsd: of.reserve.microUsd,
    modelTokens: of.reserve.modelTokens,
  },
  refusal: null,
  value: null,
  payload: null,
  payloadDigest: null,
  facts: {},
  records: [],
  dataClasses: [],
  ...change,
});
