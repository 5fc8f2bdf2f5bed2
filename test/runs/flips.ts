import type { Checkpoint } from '../../contracts/checkpoint';
import type { RunId } from '../../contracts/ids';
import { QUERIES, SIGNALS } from '../../contracts/workflow-io';
import { plays, startModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { createTestStack, type TestStack, type TestStackOptions } from '../support/stack';
import { readyTenant, tenantYaml } from '../support/tenants';
import { until } from '../support/until';
import type { Flip, FlipPoint, Trial } from './flipping';

export interface FlipReport {
  readonly trials: number;
  /** By flip and point: how often it was tried, and how many requests of the call arrived. */
  readonly strata: Readonly<Record<string, { trials: number; arrived: number }>>;
  /** What was decided by the old state after the flip was committed, and what else did not go as it must; in words. */
  readonly breaches: readonly string[];
}

/** One tenant, whose trials come one after the other, with a system outside of its own. */
interface Lane {
  readonly tenant: string;
  readonly outside: Outside;
  readonly connections: { readonly keeper: string; readonly models: string };
}

interface Armed {
  readonly point: FlipPoint;
  readonly fire: () => Promise<void>;
  fired: boolean;
  /** Why there was no change. */
  failed: string | null;
  /** The newest journal entry once the flip was committed. */
  committed: number;
}

const WAIT_MS = 60_000;
const PATH = '0.1';
const ARGS = { 'note.write': { text: 'x' }, 'record.read': {}, 'payment.send': { amountCents: 5 } } as const;
const REQUEST = {
  'note.write': 'POST /notes',
  'record.read': 'GET /records/r1',
  'payment.send': 'POST /payments',
} as const;

/**
 * Changes policy, approval or scope exactly while a call is between its check and its way out, and counts what arrives
 * outside (promises P4, P10): where the change was committed before the call was let in, it is decided anew; where it was
 * let in before, it goes out at most once, and is let in no more after it.
 */
export async function flips(
  trials: readonly Trial[],
  options: { lanes: number; stack?: TestStackOptions; onProgress?: (done: number) => void },
): Promise<FlipReport> {
  const armed = new Map<string, Armed>();
  const checkpoint: Checkpoint = async (point, { tenantId, path }) => {
    const arm = armed.get(tenantId);
    if (!arm || arm.fired || path !== PATH || point !== arm.point) return;
    arm.fired = true;
    await arm.fire();
  };
  const model = await startModel(({ input, moves }) => {
    const { action } = JSON.parse(input) as { action: Flip['action'] };
    return plays({ call: [[action, { recordId: 'r1', ...ARGS[action] }]] })({
      input,
      moves,
      messages: [],
      model: '',
    });
  });
  const stack = await createTestStack({ ...options.stack, checkpoint });
  const outsides = await Promise.all(Array.from({ length: options.lanes }, () => startOutside('acct')));
  const strata: Record<string, { trials: number; arrived: number }> = {};
  const breaches: string[] = [];
  const waiting = [...trials];
  let done = 0;
  try {
    await Promise.all(
      outsides.map(async (outside, index) => {
        const lane: Lane = {
          tenant: `lane-${index}`,
          outside,
          connections: { keeper: outside.url, models: `${model.url}/v1` },
        };
        await readyTenant(stack, { name: lane.tenant, ...lane.connections });
        for (let trial = waiting.shift(); trial; trial = waiting.shift()) {
          const name = `${trial.flip.name} @ ${trial.point}`;
          const stratum = (strata[name] ??= { trials: 0, arrived: 0 });
          const { arrived, wrong } = await tryOut(stack, lane, trial, armed).catch((error: unknown) => ({
            arrived: 0,
            wrong: [String(error)],
          }));
          stratum.trials += 1;
          stratum.arrived += arrived;
          breaches.push(...wrong.map((words) => `${name}: ${words}`));
          done += 1;
          options.onProgress?.(done);
        }
      }),
    );
  } finally {
    await stack.close();
    await Promise.all([model.close(), ...outsides.map((outside) => outside.close())]);
  }
  return { trials: done, strata, breaches };
}

async function tryOut(
  stack: TestStack,
  lane: Lane,
  { flip, point }: Trial,
  armed: Map<string, Armed>,
): Promise<{ arrived: number; wrong: string[] }> {
  const { tenant, outside, connections } = lane;
  await stack.apply(tenantYaml({ name: tenant, ...connections, rules: flip.rules }));
  const headOf = async (): Promise<number> =>
    (await stack.store(tenant).recovery.state())?.journalSeq ?? Number.NaN;
  const arm: Armed = {
    point,
    fired: false,
    failed: null,
    committed: 0,
    fire: async () => {
      try {
        await flip.flip({ stack, tenant, connections });
        arm.committed = await headOf();
      } catch (error) {
        arm.failed = String(error);
      }
    },
  };
  outside.faults = flip.lost ? { dropReads: 1 } : {};
  const mark = outside.requests.length;
  if (!flip.asksFirst) armed.set(tenant, arm);
  const run = await stack.client.startRun({
    token: await stack.token(tenant),
    agent: 'test_worker',
    input: { action: flip.action },
    target: { system: 'keeper', recordId: 'r1' },
  });
  if (flip.asksFirst) {
    const handle = stack.temporal.workflow.getHandle(run.workflowId);
    const { approvalNo } = await until(
      'a run that waits for approval',
      async () => {
        const shown = await handle
          .query<{ state: string; approvalNo: number }>(QUERIES.runState)
          .catch(() => undefined);
        return shown?.state === 'approval_required' ? shown : undefined;
      },
      WAIT_MS,
    );
    armed.set(tenant, arm);
    await stack.store(tenant).approvals.decide({
      approvalNo,
      decision: 'approve',
      approver: { principal: 'user:payer', roles: ['payer'] },
      note: 'yes',
    });
    await handle.signal(SIGNALS.approvalDecided);
  }
  const { stopReason } = await run.result({ timeoutMs: WAIT_MS });
  armed.delete(tenant);

  const arrived = outside.requests
    .slice(mark)
    .filter(({ method, path }) => `${method} ${path}` === REQUEST[flip.action]).length;
  const admissions = await admittedAt(stack, tenant, run.runId as RunId);
  const before = point === 'decided';
  const wrong: string[] = [];
  if (arm.failed !== null) return { arrived, wrong: [`nothing was changed: ${arm.failed}`] };
  if (!arm.fired) wrong.push('the call never came to that place');
  if (before && arrived !== flip.arrives.before)
    wrong.push(`${arrived} requests arrived, and ${flip.arrives.before} should have`);
  // A slow machine may use up the call's time with the change itself; then it is let in anew, and refused.
  if (!before && arrived > flip.arrives.after)
    wrong.push(`${arrived} requests arrived, and at most ${flip.arrives.after} may have`);
  if (flip.arrives.before === 0 && admissions.some((seq) => seq > arm.committed))
    wrong.push('it was let in after the change was committed');
  const ends = before ? (flip.ends ?? 'completed') : undefined;
  if (ends && stopReason !== ends) wrong.push(`the run ended as ${stopReason}, not as ${ends}`);
  return { arrived, wrong };
}

/** Journal sequences of the call's admissions. */
async function admittedAt(stack: TestStack, tenant: string, runId: RunId): Promise<number[]> {
  const entries = await stack.store(tenant).journal({ afterSeq: 0, limit: 1_000, runId });
  return entries.flatMap(({ seq, facts }) => {
    const { kind, path } = JSON.parse(facts) as { kind: string; path?: string };
    return kind === 'admitted' && path === PATH ? [seq] : [];
  });
}
