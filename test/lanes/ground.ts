import { createServer } from 'node:http';
import type { Run } from '../../client/run';
import { plays, startModel, type Script, type TestModel } from '../support/model';
import { close, listen } from '../support/outside';
import { createTestStack, type TestStack, type TestStackOptions } from '../support/stack';
import { readyTenant, tenantYaml } from '../support/tenants';
import { app } from './app';

/** One job as the system outside did it. */
export interface DoneJob {
  readonly tenant: string;
  readonly intent: string;
  readonly path: string;
  /** When it arrived, as the n-th of all. */
  readonly no: number;
}

/** The system outside: takes as long for each job as the job says, honours keys, and counts who is there at once. */
export interface Keeper {
  readonly url: string;
  readonly effects: DoneJob[];
  /** The most requests of a tenant that were ever under way at once. */
  mostOf(tenant: string): number;
  /** Those under way now. */
  nowOf(tenant: string): number;
  close(): Promise<void>;
}

async function startKeeper(): Promise<Keeper> {
  const effects: DoneJob[] = [];
  const byKey = new Map<string, Promise<unknown>>();
  const now = new Map<string, number>();
  const most = new Map<string, number>();
  let arrived = 0;
  const does = async (tenant: string, path: string, job: { intent: string; takesMs: number }) => {
    const no = (arrived += 1);
    await new Promise((resolve) => setTimeout(resolve, job.takesMs));
    effects.push({ tenant, intent: job.intent, path, no });
    return { intent: job.intent, effect: effects.length };
  };
  const server = createServer((request, response) => {
    const tenant = /secret-(.+)-keeper:write/.exec(request.headers.authorization ?? '')?.[1] ?? 'nobody';
    now.set(tenant, (now.get(tenant) ?? 0) + 1);
    most.set(tenant, Math.max(most.get(tenant) ?? 0, now.get(tenant) ?? 0));
    // A caller that is dead is not there any more: its connection went with it.
    response.once('close', () => now.set(tenant, (now.get(tenant) ?? 0) - 1));
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const job = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { intent: string; takesMs: number };
      const key = `${tenant} ${request.headers['idempotency-key']?.toString() ?? `none ${arrived}`}`;
      const doing = byKey.get(key) ?? does(tenant, request.url ?? '', job);
      byKey.set(key, doing);
      response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify(await doing));
    })().catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  const url = await listen(server);
  return {
    url,
    effects,
    mostOf: (tenant) => most.get(tenant) ?? 0,
    nowOf: (tenant) => now.get(tenant) ?? 0,
    close: () => close(server),
  };
}

/** What a run is told to do: one step after the other, and in each some jobs. */
export interface Jobs {
  readonly steps: readonly (readonly {
    action?: 'job.do' | 'report.make';
    intent: string;
    takesMs: number;
  }[])[];
}

/** A model that asks for the jobs of its input. */
const asTold: Script = (seen) => {
  const { steps } = JSON.parse(seen.input) as Jobs;
  const moves = steps.map((jobs) => ({
    call: jobs.map(({ action = 'job.do', ...args }) => [action, args] as const),
  }));
  return plays(...moves)(seen);
};

/** Stack, system outside and model of one test file. */
export interface Ground {
  readonly stack: TestStack;
  readonly keeper: Keeper;
  /** Makes the tenant, or changes its quota class. */
  tenant(
    name: string,
    more?: { lane?: string; weight?: number; expensiveCeiling?: number; ceiling?: number; limits?: string },
  ): Promise<void>;
  move(name: string, more: Parameters<Ground['tenant']>[1]): Promise<void>;
  run(tenant: string, jobs: Jobs): Promise<Run>;
  shown(
    run: Run,
  ): Promise<{ state: string; detail: string; refusal: { origin: string; rule: string } | null }>;
  intentsOf(tenant: string): string[];
  close(): Promise<void>;
}

export async function createGround(options: TestStackOptions = {}): Promise<Ground> {
  const [stack, keeper, model]: [TestStack, Keeper, TestModel] = await Promise.all([
    createTestStack({ app, ...options }),
    startKeeper(),
    startModel(asTold),
  ]);
  const partsOf: (
    name: string,
    more?: Parameters<Ground['tenant']>[1],
  ) => Parameters<typeof tenantYaml>[0] = (name, more = {}) => ({
    name,
    keeper: keeper.url,
    models: `${model.url}/v1`,
    limits: '{ callsInFlight: 500, concurrentRuns: 500 }',
    ...more,
  });
  return {
    stack,
    keeper,
    async tenant(name, more) {
      await readyTenant(stack, { ...partsOf(name, more), credentials: ['keeper:write', 'models:generate'] });
    },
    async move(name, more) {
      await stack.apply(tenantYaml(partsOf(name, more)));
    },
    run: (tenant, jobs) => stack.run(tenant, jobs),
    shown: (run) => stack.temporal.workflow.getHandle(run.workflowId).query('runState'),
    intentsOf: (tenant) => keeper.effects.filter((one) => one.tenant === tenant).map(({ intent }) => intent),
    async close() {
      await stack.close();
      await Promise.all([keeper.close(), model.close()]);
    },
  };
}

/** So many steps of one job each, called by their number. */
export const jobs = (many: number, takesMs: number, name = ''): Jobs => ({
  steps: Array.from({ length: many }, (_, no) => [{ intent: `${name}${no}`, takesMs }]),
});

export const namesOf = (many: number, name = ''): string[] =>
  Array.from({ length: many }, (_, no) => `${name}${no}`);

/** Ends of runs that take long on a machine that has much else to do, milliseconds. */
export const LONG_MS = 120_000;
