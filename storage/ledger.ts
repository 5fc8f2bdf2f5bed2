import { MAX_STORED_BYTES } from '../contracts/calls';
import type { TenantStore } from '../contracts/ports';
import type {
  Admission,
  AdmitRequest,
  Claim,
  JournalEntry,
  RecordedOutcome,
  SettleRequest,
  Settlement,
} from '../contracts/ledger';
import type { Refusal } from '../contracts/refusal';
import { canonicalJson, digestOf } from '../contracts/digest';
import type { TenantSession } from './session';
import { callsSql } from './sql';
import { storable } from './storable';

/** `int8` arrives as text; sequences, epochs and versions stay far below 2^53. */
interface AdmissionRow {
  readonly answer: Admission['answer'];
  readonly epoch: string;
  readonly attempt: number;
  readonly lookup_only: boolean;
  readonly quiet_ms: string | null;
  readonly lease_id: string | null;
  readonly retry_after_ms: string;
  readonly policy_version: string;
  readonly refusal: Refusal;
  readonly outcome: RecordedOutcome;
  readonly approval_no: string | null;
  readonly expires_in_ms: string;
  readonly seq: string;
}

const ADMIT = callsSql('admit_call', 41);
const SETTLE = callsSql('settle_call', 17);
const CLAIMED = callsSql('claimed_calls', 4, 'claimed');

/** The ledger of one tenant: each function is one statement and one round trip. See docs/ledger.md. */
export function ledgerOf(
  session: TenantSession,
): Pick<TenantStore, 'admit' | 'settle' | 'journal' | 'claimedCalls'> {
  const { tenantId, environment } = session.scope;
  return {
    async admit(request) {
      const [row] = await session.call<AdmissionRow>(ADMIT, [
        tenantId,
        environment,
        ...admissionParams(request),
      ]);
      return admissionOf(row);
    },

    async settle(request) {
      const [row] = await session.call<{
        answer: Settlement['answer'];
        review_no: string | null;
        seq: string;
      }>(SETTLE, [tenantId, environment, ...settlementParams(request)]);
      if (!row) throw new Error('settle_call answered nothing');
      return {
        answer: row.answer,
        reviewNo: row.review_no === null ? null : Number(row.review_no),
        seq: Number(row.seq),
      };
    },

    async journal({ afterSeq, limit, runId }) {
      const rows = await session.read<Omit<JournalEntry, 'seq' | 'at'> & { seq: string }>(
        `select seq, facts, body, encode(prev, 'hex') as prev, encode(hash, 'hex') as hash from bulkhead.journal
          where tenant_id = $1 and environment = $2 and seq > $3 and ($4::text is null or run_id = $4) order by seq limit $5`,
        [tenantId, environment, afterSeq, runId ?? null, limit],
      );
      return rows.map((row) => ({
        ...row,
        seq: Number(row.seq),
        at: (JSON.parse(row.facts) as { at: string }).at,
      }));
    },

    async claimedCalls({ runId, beforeEpoch }) {
      const [row] = await session.call<{ claimed: string }>(CLAIMED, [
        tenantId,
        environment,
        runId ?? null,
        beforeEpoch ?? null,
      ]);
      return Number(row?.claimed);
    },
  };
}

function admissionParams(request: AdmitRequest): unknown[] {
  const { verdict, decided } = request;
  const refusal = verdict.effect === 'allow' ? null : verdict.refusal;
  const rules = verdict.effect === 'deny' ? verdict.refusal.rules : verdict.rules;
  const asks = verdict.effect === 'approve' || verdict.effect === 'suggest' ? verdict : null;
  return [
    request.runId,
    request.path,
    request.digest,
    request.action,
    request.callClass,
    request.system,
    request.token,
    request.temporalRunId,
    request.hostId,
    request.decidedBy.policyVersion,
    request.decidedBy.recordVersion,
    request.decidedBy.factsVersion,
    verdict.effect,
    rules,
    refusal && JSON.stringify(refusal),
    refusal?.kind ?? null,
    refusal?.origin ?? null,
    refusal?.rule ?? null,
    asks && JSON.stringify(asks.terms),
    asks?.asked.args ?? null,
    asks?.asked.schemaDigest ?? null,
    asks?.asked.requester ?? null,
    decided?.input.destination ?? null,
    decided && JSON.stringify(decided.input),
    decided?.inputDigest ?? null,
    request.leaseMs,
    request.keyValidMs,
    request.seenSeq,
    request.reserve.toolCalls,
    request.reserve.steps,
    request.reserve.microUsd,
    request.reserve.modelTokens,
    request.reserve.storedBytes ?? (request.undoOf === null ? MAX_STORED_BYTES : 0),
    request.capability,
    request.reversible,
    request.undoOf,
    request.pastFence,
    request.account,
    canonicalJson({
      digest: request.digest,
      host: request.hostId,
      temporalRun: request.temporalRunId,
      ...(decided && decided.input.model !== null && { model: decided.input.model }),
      ...(verdict.effect === 'deny' && { refusal }),
    }),
  ];
}

function settlementParams(request: SettleRequest): unknown[] {
  return [
    request.runId,
    request.path,
    request.token,
    request.result,
    request.charge.toolCalls,
    request.charge.microUsd,
    request.charge.modelTokens,
    request.refusal && JSON.stringify(request.refusal),
    JSON.stringify(request.value ?? null),
    request.payload && JSON.stringify(request.payload),
    request.payloadDigest,
    JSON.stringify(request.facts),
    JSON.stringify(request.records.filter(storable)),
    request.dataClasses,
    // What a fact says may be a person's; that it was set, and that it is this one, is all the proof needs.
    canonicalJson({
      facts: Object.keys(request.facts).sort(),
      factsDigest: digestOf(request.facts),
      refusal: request.refusal,
      records: request.records.map(({ system, id, account }) => ({ system, id, account: account ?? null })),
    }),
  ];
}

function admissionOf(row: AdmissionRow | undefined): Admission {
  if (!row) throw new Error('admit_call answered nothing');
  const seq = Number(row.seq);
  switch (row.answer) {
    case 'admitted':
      return { answer: 'admitted', ...claimOf(row, seq) };
    case 'recover':
      return {
        answer: 'recover',
        lookupOnly: row.lookup_only,
        quietMs: row.quiet_ms === null ? null : Number(row.quiet_ms),
        ...claimOf(row, seq),
      };
    case 'replayed':
      return { answer: 'replayed', outcome: row.outcome, seq };
    case 'in_flight':
      return { answer: 'in_flight', retryAfterMs: Number(row.retry_after_ms), seq };
    case 'stale':
      return { answer: 'stale', policyVersion: Number(row.policy_version), seq };
    case 'refused':
      return {
        answer: 'refused',
        refusal: row.refusal,
        ...(row.approval_no !== null && {
          approval: { no: Number(row.approval_no), expiresInMs: Number(row.expires_in_ms) },
        }),
        seq,
      };
  }
}

const claimOf = (row: AdmissionRow, seq: number): Claim => ({
  epoch: Number(row.epoch),
  attempt: row.attempt,
  leaseId: row.lease_id,
  seq,
});
