import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { NativeConnection } from '@temporalio/worker';
import { Environment } from '../contracts/ids';
import { startControlHost } from '../workers/control-host';
import { startLaneHost } from '../workers/lane-host';
import type { Running } from '../workers/parts';
import { workflowBundle } from '../workers/workflow-bundle';
import { startBenchStack, type BenchStack } from './stack';
import { median, quantile } from './statistics';
import { benchApp, createTenant, policyText, startCalls, TENANT, workflowWorker } from './tenant';

const PUBLICATIONS = 20;
const RUNS = 4;
const CALLS = 2_000;
/** Between two publications: a few dozen calls on each host. */
const PAUSE_MS = 700;

/**
 * How soon a published policy decides: two hosts work through the calls of four runs, and versions are published meanwhile.
 * By the ledger's own clock: the commit of a version for the tenant, and the admissions after it on each host.
 */
export async function publishToEffect(): Promise<void> {
  const keeper = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"id":"r1","account":"acct"}');
  });
  await new Promise<void>((resolve) => keeper.listen(0, '127.0.0.1', resolve));
  const stack = await startBenchStack(benchApp);
  const running: Running[] = [];
  try {
    await createTenant(stack, `http://127.0.0.1:${(keeper.address() as AddressInfo).port}`);
    const bundle = await workflowBundle();
    running.push(await startControlHost(stack.parts, { bundle }));
    for (const hostId of HOSTS) running.push(await startHost(stack, hostId, bundle));
    const workflows = await workflowWorker(stack);
    const ended = workflows.run();
    const runs = await Promise.all(
      Array.from({ length: RUNS }, () => startCalls(stack, 'benchGoverned', CALLS)),
    );
    // Connections, plans and caches of both hosts are warm by then.
    await delay(5_000);
    const published = await publishAgainAndAgain(stack);
    const effects = await effectsOf(stack, published);
    for (const run of runs) await run.terminate('measured');
    workflows.shutdown();
    await ended;
    print(published, effects);
  } finally {
    for (const host of running.reverse()) await host.stop();
    await stack.close();
    keeper.close();
  }
}

const HOSTS = ['bench-1', 'bench-2'] as const;

/** A host of its own, but for the process. Two workers of one queue need a connection each. */
async function startHost(
  stack: BenchStack,
  hostId: string,
  bundle: Awaited<ReturnType<typeof workflowBundle>>,
): Promise<Running> {
  const connection = await NativeConnection.connect({ address: stack.address });
  const host = await startLaneHost({ ...stack.parts, connection, hostId }, { bundle, only: TENANT });
  return {
    async stop() {
      await host.stop();
      await connection.close();
    },
  };
}

interface Published {
  readonly version: number;
  /** Of `policy publish` as a whole, on the operator's side. */
  readonly tookMs: number;
}

async function publishAgainAndAgain(stack: BenchStack): Promise<Published[]> {
  const published: Published[] = [];
  for (let index = 0; index < PUBLICATIONS; index += 1) {
    const text = policyText([
      `{ id: write_${index}, effect: allow, actions: [note.write], when: context.args.text != "" }`,
    ]);
    const begun = performance.now();
    const { version } = await stack.operator.publishPolicy(
      { name: 'bench', environments: [Environment.parse('bench')], text },
      'bench',
      `publication ${index}`,
    );
    published.push({ version, tookMs: performance.now() - begun });
    await delay(PAUSE_MS);
  }
  return published;
}

interface Effect {
  readonly version: number;
  readonly hostId: string;
  /** From the commit of the version to the first admission under it on this host. */
  readonly firstMs: number;
  /** Admissions on this host after the commit of the next version: none may be. */
  readonly late: number;
}

/** What the ledger has written of it. Versions that a host made no call under are left out. */
async function effectsOf({ admin }: BenchStack, published: readonly Published[]): Promise<Effect[]> {
  const { rows } = await admin.query<{ version: number; host_id: string; first_ms: number; late: string }>(
    `with put as (
       select (facts::json ->> 'policyVersion')::integer as version, (facts::json ->> 'at')::timestamptz as at
         from bulkhead.journal where facts::json ->> 'kind' = 'policy' and tenant_id = $1),
     spans as (select version, at, lead(at) over (order by version) as until from put)
     select s.version, c.host_id, extract(epoch from min(c.first_claimed_at) - s.at)::float8 * 1000 as first_ms,
            count(*) filter (where c.first_claimed_at > s.until) as late
       from spans s join bulkhead.calls c on c.policy_version = s.version and c.tenant_id = $1
      where s.version = any ($2) group by s.version, s.at, c.host_id order by 1, 2`,
    [TENANT, published.map(({ version }) => version)],
  );
  return rows.map((row) => ({
    version: row.version,
    hostId: row.host_id,
    firstMs: row.first_ms,
    late: Number(row.late),
  }));
}

function print(published: readonly Published[], effects: readonly Effect[]): void {
  const took = published.map(({ tookMs }) => tookMs);
  const line = (name: string, values: readonly number[]): string =>
    `  ${name.padEnd(34)} median ${median(values).toFixed(1)} ms · most ${quantile(values, 1).toFixed(1)} ms`;
  const ofHost = (host: string): number[] =>
    effects.flatMap(({ hostId, firstMs }) => (hostId === host ? [firstMs] : []));
  const late = effects.reduce((sum, effect) => sum + effect.late, 0);
  process.stdout.write(
    [
      `a policy published ${published.length} times while two hosts work (${RUNS} runs, one call after the other each):`,
      line('publishing, for the operator', took),
      ...HOSTS.map((host) => line(`first call by it on ${host} (${ofHost(host).length})`, ofHost(host))),
      `  calls that the version before it let in after its commit: ${late}`,
      '',
    ].join('\n'),
  );
}
