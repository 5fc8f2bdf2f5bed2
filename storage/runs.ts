import type { Lane } from '../contracts/documents';
import { canonicalJson } from '../contracts/digest';
import type { SignedEnvelope } from '../contracts/envelope';
import type { RunId } from '../contracts/ids';
import type { RunPage } from '../contracts/lists';
import type { TenantStore } from '../contracts/ports';
import type { Acceptance, Handed, LastRefusal, RunRow } from '../contracts/rows';
import type { Refusal } from '../contracts/refusal';
import type { RunState, StopReason } from '../contracts/states';
import { newest, type Condition, type NewestOf } from './newest';
import type { TenantSession } from './session';
import { callsSql } from './sql';

type Runs = Pick<
  TenantStore,
  | 'acceptRun'
  | 'enterRun'
  | 'parkRun'
  | 'leaveRun'
  | 'standingInLine'
  | 'run'
  | 'runByIdempotencyKey'
  | 'runs'
  | 'openRuns'
>;

interface Row {
  readonly run_id: RunId;
  readonly workflow_id: string;
  readonly temporal_run_id: string | null;
  readonly agent_id: string;
  readonly agent_version: string;
  readonly workspace_id: string;
  readonly target_system: string | null;
  readonly target_record_id: string | null;
  readonly state: RunState;
  readonly stop_reason: StopReason | null;
  readonly accepted_iso: string;
  readonly entered_iso: string | null;
  readonly closed_iso: string | null;
  readonly steps: number;
  readonly tool_calls: number;
  readonly refusals: number;
  readonly spent_micro_usd: string;
  readonly output_ref: string | null;
  readonly since_iso: string;
  readonly priority: number;
  readonly slot_iso: string | null;
  readonly queued_iso: string | null;
  readonly last_refusal: LastRefusal | null;
  readonly signed: SignedEnvelope;
}

/** What `enter_run` answers; see 0007. */
interface EntryRow {
  readonly kind: 'entered' | 'queued' | 'waits' | 'refused';
  readonly lane: Lane;
  readonly max_steps: number;
  readonly first_step: number;
  readonly refusal: Refusal;
  readonly stop_reason: StopReason;
  readonly position: number | null;
  readonly waiting: number;
  readonly expires_in_ms: string | null;
  readonly handed: string[] | null;
  readonly seq: string;
}

/** The middle of the five. */
const DEFAULT_PRIORITY = 3;

const ACCEPT = callsSql('accept_run', 10);
const ENTER = callsSql('enter_run', 8);
const PARK = callsSql('park_run', 5, 'handed');
const STANDING = callsSql('standing_in_line', 3);
const LEAVE = callsSql('leave_run', 8);
const ROWS = 'select * from bulkhead.run_rows where tenant_id = $1 and environment = $2';
const NEWEST: NewestOf = { from: 'bulkhead.run_rows', columns: '*', order: 'accepted_at desc, run_id desc' };
const SINCE_LAST = `(accepted_at, run_id) < (select last.accepted_at, last.run_id from bulkhead.runs last
  where last.tenant_id = $1 and last.environment = $2 and last.run_id = ?)`;

/** Acceptance, entry and end of runs; the list of a tenant's runs. See docs/ledger.md. */
export function runsOf(session: TenantSession): Runs {
  const { tenantId, environment } = session.scope;
  const find = async (condition: string, ...params: unknown[]): Promise<Row[]> =>
    session.read<Row>(`${ROWS} ${condition}`, [tenantId, environment, ...params]);

  return {
    async acceptRun({ signed, fork, idempotencyKey, bodyDigest, input, priority = DEFAULT_PRIORITY }) {
      const [answer] = await session.call<{ kind: Acceptance['kind']; run_id: RunId; refusal: Refusal }>(
        ACCEPT,
        [
          tenantId,
          environment,
          JSON.stringify(signed),
          idempotencyKey,
          bodyDigest,
          JSON.stringify({ kind: 'input', input }),
          fork?.runId ?? null,
          fork?.fromStep ?? null,
          priority,
          canonicalJson({ bodyDigest, envelope: signed.envelope }),
        ],
      );
      if (!answer) throw new Error('accept_run answered nothing');
      if (answer.kind === 'refused') return { kind: 'refused', refusal: answer.refusal };
      const [row] = await find('and run_id = $3', answer.run_id);
      if (!row) throw new Error(`run ${answer.run_id} was accepted and cannot be read`);
      return answer.kind === 'conflict'
        ? { kind: 'conflict', run: runRow(row) }
        : { kind: answer.kind, run: runRow(row), signed: row.signed };
    },

    async enterRun({ runId, temporalRunId, previousTemporalRunId, generation, unlessOpen = {} }) {
      const [row] = await session.call<EntryRow>(ENTER, [
        tenantId,
        environment,
        runId,
        temporalRunId,
        previousTemporalRunId,
        generation,
        'approvalNo' in unlessOpen ? unlessOpen.approvalNo : null,
        'reviewNo' in unlessOpen ? unlessOpen.reviewNo : null,
      ]);
      if (!row) throw new Error('enter_run answered nothing');
      const { kind, refusal, stop_reason: stopReason, position, waiting } = row;
      const handed: Handed = row.handed ?? [];
      const seq = Number(row.seq);
      switch (kind) {
        case 'entered':
          return { kind, lane: row.lane, maxSteps: row.max_steps, firstStep: row.first_step, seq, handed };
        case 'queued':
          return { kind, refusal, position, waiting, seq, handed };
        case 'waits': {
          const expiresInMs = row.expires_in_ms === null ? null : Number(row.expires_in_ms);
          return { kind, expiresInMs, seq, handed };
        }
        case 'refused':
          return { kind, refusal, stopReason, handed };
      }
    },

    async parkRun({ runId, temporalRunId, state }) {
      const [row] = await session.call<{ handed: string[] }>(PARK, [
        tenantId,
        environment,
        runId,
        temporalRunId,
        state,
      ]);
      if (!row) throw new Error('park_run answered nothing');
      return { handed: row.handed };
    },

    async standingInLine(runId) {
      const [row] = await session.call<{
        position: number;
        waiting: number;
        value: number | null;
        used: number;
      }>(STANDING, [tenantId, environment, runId]);
      return row;
    },

    async leaveRun({ runId, temporalRunId, stopReason, outputRef, undo }) {
      const [row] = await session.call<{
        stop_reason: StopReason;
        follow_up_no: string | null;
        handed: string[] | null;
      }>(LEAVE, [
        tenantId,
        environment,
        runId,
        temporalRunId,
        stopReason,
        outputRef,
        undo?.onFailure ?? false,
        undo?.onKill ?? false,
      ]);
      if (!row) throw new Error('leave_run answered nothing');
      return {
        stopReason: row.stop_reason,
        ...(row.handed?.length && { handed: row.handed }),
        ...(row.follow_up_no !== null && { followUpNo: Number(row.follow_up_no) }),
      };
    },

    async run(runId) {
      const [row] = await find('and run_id = $3', runId);
      return row && runRow(row);
    },

    async runByIdempotencyKey(key) {
      const [row] = await find('and idempotency_key = $3', key);
      return row && runRow(row);
    },

    async runs(page) {
      return (await newest<Row>(session, NEWEST, page, conditionsOf(page))).map(runRow);
    },

    async openRuns(limit, { beforeEpoch, state } = {}) {
      const rows = await find(
        `and state <> 'closed' and ($3::bigint is null or epoch < $3) and ($4::text is null or state = $4)
         order by accepted_at, run_id limit $5`,
        beforeEpoch ?? null,
        state ?? null,
        limit,
      );
      return rows.map(runRow);
    },
  };
}

const conditionsOf = ({ before, state, stopReason }: RunPage): Condition[] => [
  ...(before === undefined
    ? []
    : 'runId' in before
      ? [[SINCE_LAST, before.runId] as const]
      : [['accepted_at < ?::timestamptz', before.acceptedAt] as const]),
  ...(state === undefined ? [] : [['state = ?::text', state] as const]),
  // What is open has an index of its own.
  ...(state === undefined || state === 'closed' ? [] : [[`state <> 'closed'`] as const]),
  ...(stopReason === undefined ? [] : [['stop_reason = ?::text', stopReason] as const]),
];

function runRow(row: Row): RunRow {
  return {
    runId: row.run_id,
    workflowId: row.workflow_id,
    temporalRunId: row.temporal_run_id,
    agentId: row.agent_id,
    agentVersion: row.agent_version,
    workspaceId: row.workspace_id,
    target:
      row.target_system !== null && row.target_record_id !== null
        ? { system: row.target_system, recordId: row.target_record_id }
        : null,
    state: row.state,
    stopReason: row.stop_reason,
    acceptedAt: row.accepted_iso,
    enteredAt: row.entered_iso,
    closedAt: row.closed_iso,
    steps: row.steps,
    toolCalls: row.tool_calls,
    refusals: row.refusals,
    spentMicroUsd: Number(row.spent_micro_usd),
    outputRef: row.output_ref,
    stateSince: row.since_iso,
    priority: row.priority,
    slotSince: row.slot_iso,
    queuedSince: row.queued_iso,
    lastRefusal: row.last_refusal,
  };
}
