import type { Client, Pool } from 'pg';

/** Whose rows are planted. */
export interface Whose {
  readonly tenant: string;
  readonly environment: string;
  readonly workspace: string;
}

/** What lists are made of, put into the tables many at a time: runs and calls of their own would take a day. */
export class Planter {
  constructor(private readonly admin: Pick<Client | Pool, 'query'>) {}

  /** Runs `<workspace>-1` to `-<count>` that work; `apartMs` between the moments they were accepted at, 0 for one moment. */
  async runs(
    of: Whose,
    count: number,
    { from = 1, apartMs = 1, at = '2026-01-01T00:00:00Z' } = {},
  ): Promise<string[]> {
    const whose = [of.tenant, of.environment, of.workspace];
    const ids = `$3 || '-' || lpad(k::text, 6, '0')`;
    await this.admin.query(
      `insert into bulkhead.run_acceptances (tenant_id, environment, run_id, root_run_id, workflow_id, agent_id, agent_version, workspace_id,
           body_digest, signed)
         select $1, $2, ${ids}, ${ids}, 'wf-' || ${ids}, 'support_triage', '1', $3, 'd', '{}' from generate_series($4::int, $5::int) k`,
      [...whose, from, from + count - 1],
    );
    const { rows } = await this.admin.query<{ run_id: string }>(
      `insert into bulkhead.runs (tenant_id, environment, run_id, workspace_id, epoch, state, accepted_at, touched_at)
         select $1, $2, ${ids}, $3, 0, 'running', $6::timestamptz + k * $7::int * interval '1 ms', now()
           from generate_series($4::int, $5::int) k
         returning run_id`,
      [...whose, from, from + count - 1, at, apartMs],
    );
    return rows.map((row) => row.run_id);
  }

  /** An approval, a review and a dead letter of each number, of these runs in turn: open, or over. Every other approval that is over was never decided. */
  async entries(
    of: Whose,
    runIds: readonly string[],
    from: number,
    count = 1,
    { over = false } = {},
  ): Promise<void> {
    const params = [of.tenant, of.environment, of.workspace, runIds, from, from + count - 1, over];
    const common = `$1, $2, k, ($4::text[])[1 + k % cardinality($4::text[])], $3, '0.' || k`;
    const numbers = 'from generate_series($5::int, $6::int) k';
    await this.admin.query(
      `insert into bulkhead.approvals (tenant_id, environment, approval_no, run_id, workspace_id, path, digest, action, class, args,
           schema_digest, kind, terms, requester, policy_version, state, requested_at, expires_at)
         select ${common}, 'd', 'payment.send', 'write', '{}', 'd', 'rule', '{"rules":["r"],"roles":[["finance"]],"notRequester":true}',
           'user:ann', 1, case when $7 and k % 2 = 0 then 'superseded' else 'pending' end, now(),
           now() + case when $7 then -1 else 1 end * interval '1 day' ${numbers}`,
      params,
    );
    await this.admin.query(
      `insert into bulkhead.reviews (tenant_id, environment, review_no, run_id, workspace_id, path, token, action, class, kind, refusal, opened_at,
           resolved_at, resolution, actor)
         select ${common}, gen_random_uuid(), 'payment.send', 'write', 'outcome_unknown', '{}', now(),
           case when $7 then now() end, case when $7 then 'abandon' end, case when $7 then 'ann' end ${numbers}`,
      params,
    );
    await this.admin.query(
      `insert into bulkhead.dead_letters (tenant_id, environment, letter_no, run_id, workspace_id, path, action, class, attempts, refusal,
           died_at, state)
         select ${common}, 'payment.send', 'write', 8, '{"rule":"attempts_exhausted"}', now(),
           case when $7 then 'discarded' else 'dead' end ${numbers}`,
      params,
    );
  }

  /** As autovacuum does it within a minute. */
  async analyze(): Promise<void> {
    await this.admin.query(
      'analyze bulkhead.runs, bulkhead.run_acceptances, bulkhead.approvals, bulkhead.reviews, bulkhead.dead_letters',
    );
  }
}
