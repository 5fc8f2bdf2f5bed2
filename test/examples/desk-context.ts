import { setTimeout as sleep } from 'node:timers/promises';
import type { ApprovalRow, SuggestionRow } from '../../contracts/approvals';
import type { ExampleContext, JournaledWrite, RunReport } from '../../tools/example';
import { compileProfile, checkDocuments } from '../../policy/compile';
import { formatMistakes } from '../../policy/documents';
import { app } from '../../examples/support-desk/app';
import { playRun, type DeskEnding, type DeskTenant } from './desk-runtime';
import type { Processes } from './processes';

const CALLS_IN_FLIGHT = 8;

/** The example's context without engine and database, for its own tests: runs live in this process. */
export function deskContext(
  stateDir: string,
  processes: Processes,
): ExampleContext & { said: string[]; tenants: Map<string, DeskTenant> } {
  const tenants = new Map<string, DeskTenant>();
  const runs = new Map<
    string,
    { ending: Promise<DeskEnding>; acceptedAt: string; tenant: string; runId: string }
  >();
  const control = new Map<
    string,
    {
      mode: string;
      fencedAt: string | null;
      containedAt: string | null;
      drainedAt: string | null;
      inFlight: number;
    }
  >();
  const said: string[] = [];
  const tenant = (name: string): DeskTenant => {
    const found = tenants.get(name);
    if (!found) throw new Error(`no tenant ${name}`);
    return found;
  };
  const controlOf = (name: string) => {
    const state = control.get(name) ?? {
      mode: 'normal',
      fencedAt: null,
      containedAt: null,
      drainedAt: null,
      inFlight: 0,
    };
    control.set(name, state);
    return state;
  };
  const reportOf = async ({
    ending,
    acceptedAt,
    runId,
  }: {
    ending: Promise<DeskEnding>;
    acceptedAt: string;
    runId: string;
  }): Promise<RunReport> => {
    const { stopReason, steps, toolCalls, refusals } = await ending;
    return {
      runId,
      state: 'closed',
      stopReason,
      steps,
      toolCalls,
      refusals: refusals.length,
      spentMicroUsd: 0,
      acceptedAt,
      closedAt: new Date().toISOString(),
    };
  };
  const runOf = (runId: string) => {
    const run = [...runs.values()].find((one) => one.runId === runId);
    if (!run) throw new Error(`no run ${runId}`);
    return run;
  };

  /** Calls that wait for a person. */
  const waiting = new Map<number, { tenant: string; row: ApprovalRow; decide: (yes: boolean) => void }>();
  let asked = 0;
  const writes: { tenant: string; write: JournaledWrite }[] = [];
  const needsAStack = (): never => {
    throw new Error('this context has no stack: see stack-scenarios.soak.ts');
  };
  return {
    said,
    tenants,
    stateDir,
    environment: 'prod',
    model: () => undefined,
    spawn: processes.start,
    apply: (yaml) => {
      const checked = checkDocuments(yaml, app);
      if (!checked.ok) throw new Error(formatMistakes(checked.mistakes, 'example'));
      const profiles = checked.documents.filter(({ kind }) => kind === 'PolicyProfile');
      for (const document of checked.documents) {
        if (document.kind !== 'Tenant') continue;
        const compiled = compileProfile({ text: profiles[0]?.text ?? '', version: 1, ...app });
        if (!compiled.ok) throw new Error(formatMistakes(compiled.mistakes, 'example'));
        tenants.set(document.document.metadata.name, {
          document: document.document,
          policy: compiled.policy,
          credentials: new Map(),
          knowledge: [],
        });
      }
      return Promise.resolve();
    },
    putCredential: (name, capability, secret) => {
      tenant(name).credentials.set(capability, secret);
      return Promise.resolve();
    },
    putKnowledge: (name, documents) => {
      tenant(name).knowledge = documents;
      return Promise.resolve();
    },
    startRun: (request) => {
      const key = `${request.tenant} ${request.idempotencyKey}`;
      const state = controlOf(request.tenant);
      const known = runs.get(key);
      if (known) return Promise.resolve({ runId: known.runId });
      const runId = `run-${runs.size + 1}`;
      const target = { system: request.target.system, id: request.target.recordId };
      const ending = playRun(
        tenant(request.tenant),
        { runId, tenant: request.tenant, workspace: request.workspace, input: request.input, target },
        {
          stopped: () => state.mode === 'killed',
          enter: async (callKey) => {
            while (state.mode !== 'killed' && state.inFlight >= CALLS_IN_FLIGHT) await sleep(2);
            if (state.mode === 'killed') return false;
            state.inFlight += 1;
            const write: JournaledWrite = {
              runId,
              path: callKey.slice(runId.length + 1),
              action: '',
              key: callKey,
              admittedAt: new Date().toISOString(),
              attempts: 1,
              state: 'succeeded',
            };
            writes.push({ tenant: request.tenant, write });
            return true;
          },
          leave: () => void (state.inFlight -= 1),
          approved: async ({ action, args, path }) => {
            const approvalNo = (asked += 1);
            const row = { approvalNo, runId, path, action, args: JSON.stringify(args) };
            let answer: boolean | undefined;
            waiting.set(approvalNo, {
              tenant: request.tenant,
              row: row as unknown as ApprovalRow,
              decide: (yes) => void (answer = yes),
            });
            while (answer === undefined && state.mode !== 'killed') await sleep(2);
            waiting.delete(approvalNo);
            return answer === true;
          },
        },
      );
      ending.catch(() => undefined);
      runs.set(key, { ending, acceptedAt: new Date().toISOString(), tenant: request.tenant, runId });
      return Promise.resolve({ runId });
    },
    waitRun: (_tenant, runId) => reportOf(runOf(runId)),
    runs: (name) => Promise.all([...runs.values()].filter((run) => run.tenant === name).map(reportOf)),
    refusals: async (_tenant, runId) => (await runOf(runId).ending).refusals,
    signalControl: async (name, signal) => {
      const state = controlOf(name);
      if (signal === 'release') {
        Object.assign(state, { mode: 'normal', fencedAt: null, containedAt: null, drainedAt: null });
        return;
      }
      Object.assign(state, { mode: 'killed', fencedAt: new Date().toISOString() });
      while (state.inFlight > 0) await sleep(5);
      Object.assign(state, { containedAt: new Date().toISOString() });
      await Promise.all([...runs.values()].filter((run) => run.tenant === name).map(({ ending }) => ending));
      Object.assign(state, { drainedAt: new Date().toISOString() });
    },
    writes: (name) =>
      Promise.resolve(writes.flatMap(({ tenant: of, write }) => (of === name ? [write] : []))),
    openReviews: () => Promise.resolve([]),
    followUps: () => Promise.resolve([]),
    openApprovals: (name) =>
      Promise.resolve([...waiting.values()].flatMap(({ tenant: of, row }) => (of === name ? [row] : []))),
    decide: (_name, { approvalNo, decision }) => {
      waiting.get(approvalNo)?.decide(decision === 'approve');
      return Promise.resolve();
    },
    suggestions: async (_tenant, runId) =>
      (await runOf(runId).ending).suggested.map((action) => ({ action }) as unknown as SuggestionRow),
    command: needsAStack,
    machine: {
      workers: () => [],
      ownsDatabase: false,
      killWorker: needsAStack,
      stopDatabaseAtOnce: needsAStack,
      endSystem: needsAStack,
    },
    controlState: (name) => Promise.resolve({ ...controlOf(name) }),
    say: (line) => void said.push(line),
  };
}
