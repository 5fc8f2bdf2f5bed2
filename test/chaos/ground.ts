import type { TestModel } from '../support/model';
import type { TestStack } from '../support/stack';
import { KEEPS, UNDOES } from './app';
import type { ChaosPlan, PlannedRun } from './plan';
import { inputOf } from './script';
import type { ChaosSystems } from './systems';
import { readyChaosTenant } from './tenants';
import type { Witness } from './witness';

/** What every harness of this folder works on. */
export interface Ground {
  readonly stack: TestStack;
  readonly systems: ChaosSystems;
  readonly plan: ChaosPlan;
  readonly tenants: readonly string[];
}

/** Accepts every planned run; their workflows wait for the first worker. Answers them by run id. */
export async function startRuns({
  stack,
  systems,
  keeper = systems.url,
  model,
  plan,
  tenants,
}: Ground & { model: TestModel; keeper?: string }): Promise<Map<string, PlannedRun>> {
  for (const name of tenants) await readyChaosTenant(stack, { name, keeper, models: model.url });
  const runs = new Map<string, PlannedRun>();
  for (const [index, planned] of plan.runs.entries()) {
    const run = await stack.client.startRun({
      token: await stack.token(planned.tenant),
      agent: planned.undone ? UNDOES : KEEPS,
      input: inputOf(index, planned),
      target: { system: 'keeper', recordId: 'r1' },
    });
    runs.set(run.runId, planned);
  }
  return runs;
}

/** Runs that are not closed, each with its state; `undefined` while the database is away. */
export async function openRuns(witness: Witness, stack: TestStack): Promise<string[] | undefined> {
  const rows = await witness.rows<{ run_id: string; state: string; follow_ups: string }>(
    `select run_id, state, (select string_agg(concat(f.kind, ' ', f.state), ', ') from bulkhead.follow_ups f
         where f.tenant_id = r.tenant_id and f.environment = r.environment and f.run_id = r.run_id) as follow_ups
       from bulkhead.runs r where environment = $1 and state <> 'closed'`,
    [stack.environment],
  );
  return rows?.map((row) => `${row.run_id} ${row.state} (${row.follow_ups})`);
}

/** What should be nothing once all is done, and how the runs ended. */
export async function restOf(witness: Witness, stack: TestStack) {
  const [rest] =
    (await witness.rows<{
      inflight: string;
      claimed: string;
      reviews: string;
      opened: string;
      bytes: string;
    }>(
      `select (select coalesce(sum((meter).inflight + slots + queued), 0) from bulkhead.ledgers where environment = $1) as inflight,
         (select coalesce(sum(stored_reserved + abs(stored_bytes - (select coalesce(sum(octet_length(payload::text)), 0)
              from bulkhead.payloads p where (p.tenant_id, p.environment) = (t.tenant_id, t.environment)))), 0)
            from bulkhead.ledgers t where environment = $1) as bytes,
         (select count(*) from bulkhead.calls where environment = $1 and state in ('claimed', 'open')) as claimed,
         (select count(*) from bulkhead.reviews where environment = $1 and resolved_at is null) as reviews,
         (select count(*) from bulkhead.reviews where environment = $1) as opened`,
      [stack.environment],
    )) ?? [];
  const ends = await witness.rows<{ stop_reason: string; count: string }>(
    `select stop_reason, count(*) as count from bulkhead.runs where environment = $1 group by 1`,
    [stack.environment],
  );
  return {
    inflight: Number(rest?.inflight),
    /** Reserved for nothing, or counted and not there, or the other way round. */
    bytes: Number(rest?.bytes),
    claimed: Number(rest?.claimed),
    openReviews: Number(rest?.reviews),
    reviews: Number(rest?.opened),
    stopReasons: Object.fromEntries((ends ?? []).map((row) => [row.stop_reason, Number(row.count)])),
  };
}
export type Rest = Awaited<ReturnType<typeof restOf>>;
