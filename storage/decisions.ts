import type { DecisionRow } from '../contracts/approvals';
import type { RunId } from '../contracts/ids';
import type { DecisionInput, PolicyEffect } from '../contracts/policy-decision';
import type { TenantStore } from '../contracts/ports';
import type { TenantSession } from './session';
import { callsSql } from './sql';

interface Row {
  readonly run_id: RunId;
  readonly path: string;
  readonly at: string;
  readonly effect: PolicyEffect;
  readonly rules: string[];
  readonly policy_version: string;
  readonly input: DecisionInput;
  readonly micro_usd: string;
}

const ROWS = callsSql('decision_rows', 7);

/** What policy was asked about each call of this tenant, and what it said (promises P9, P12). */
export function decisionsOf(session: TenantSession): Pick<TenantStore, 'decisions'> {
  const { tenantId, environment } = session.scope;
  return {
    decisions: {
      async since({ since, limit, after }) {
        const rows = await session.call<Row>(ROWS, [
          tenantId,
          environment,
          since,
          after?.at ?? null,
          after?.runId ?? null,
          after?.path ?? null,
          limit,
        ]);
        return rows.map(decisionRow);
      },
    },
  };
}

const decisionRow = (row: Row): DecisionRow => ({
  runId: row.run_id,
  path: row.path,
  at: row.at,
  effect: row.effect,
  rules: row.rules,
  policyVersion: Number(row.policy_version),
  input: row.input,
  microUsd: Number(row.micro_usd),
});
