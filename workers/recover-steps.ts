import { createLeaving, type Leaving } from '../activities/leaving';
import { createPolicies } from '../activities/policies';
import { actionOfToolName } from '../contracts/tool-names';
import type { StoredPayload } from '../contracts/calls';
import type { SignedEnvelope } from '../contracts/envelope';
import type { RunId } from '../contracts/ids';
import type { TenantStore } from '../contracts/ports';
import type { LedgerCall, RecoveryRow } from '../contracts/recovery';
import type { ControlState } from '../contracts/workflow-io';
import type { App } from '../tools/app';
import type { FollowUpTrace, WorkflowTrace } from './recover-history';
import { declaredClasses, lostInput, lostStep, planCall } from './recover-plan';

/** A call moved while it was put back: something else is at work on this ledger. Nothing is lost by running it again. */
export class RecoveryMoved extends Error {
  override readonly name = 'RecoveryMoved';
}

/** A workflow whose envelope holds, with whose it is. */
export interface Trusted {
  readonly trace: WorkflowTrace;
  readonly signed: SignedEnvelope;
}

/** What is done to the ledger, and told of it, step by step. */
export class Recovery {
  readonly rows: RecoveryRow[] = [];
  readonly counts: Record<string, number> = {};
  readonly #ledger = new Map<string, Map<string, LedgerCall>>();
  readonly #leave: Leaving;

  constructor(
    private readonly app: Pick<App, 'actions' | 'agents'>,
    private readonly store: TenantStore,
    private readonly dryRun: boolean,
  ) {
    this.#leave = createLeaving({ policies: createPolicies(app) });
  }

  /** A kill that was lost is raised again first: what it stopped stays stopped. */
  async fence(control: ControlState | undefined, known: number): Promise<ControlState | undefined> {
    if (!control || control.fenceEpoch <= known) return undefined;
    if (!this.dryRun) await this.store.recovery.restoreFence(control);
    this.#row({
      runId: '',
      path: null,
      action: null,
      history: `${control.mode}, fence ${control.fenceEpoch}`,
      ledger: `fence ${known}`,
      done: 'the fence is raised again',
      counted: 'fences',
    });
    return control;
  }

  async run({ trace, signed }: Trusted, fence: ControlState | undefined): Promise<void> {
    const { envelope } = signed;
    const row = await this.store.run(envelope.runId);
    const { entered } = trace;
    // One that stands in line has a workflow too, and nothing that it did is known here.
    const known = row?.temporalRunId === entered?.temporalRunId && row?.enteredAt !== null;
    const moved = entered !== null && !known && row?.state !== 'closed';
    if (row && !moved) return;
    if (!this.dryRun) {
      await this.store.recovery.restoreRun({
        signed,
        input: lostInput(),
        fenced: Boolean(fence?.fencedAt && Date.parse(envelope.acceptedAt) < Date.parse(fence.fencedAt)),
        entered: entered && {
          temporalRunId: entered.temporalRunId,
          generation: entered.generation,
          at: entered.at.toISOString(),
        },
        firstStep: entered?.firstStep ?? 0,
        step: lostStep(),
        dataClasses: entered?.firstStep ? declaredClasses(this.app.actions) : [],
      });
    }
    this.#row({
      runId: envelope.runId,
      path: null,
      action: null,
      history: entered ? `entered, part ${entered.generation + 1}` : 'accepted',
      ledger: row ? row.state : 'unknown to it',
      done: row ? 'put back as entered by the workflow of now' : 'accepted again; its input is lost',
      counted: row ? 'runsEntered' : 'runsAccepted',
    });
  }

  async calls({ trace, signed }: Trusted): Promise<void> {
    const { envelope } = signed;
    const runId = envelope.rootRunId;
    const ledger = await this.#callsOf(runId);
    const agent = await this.store.agent(envelope.agentId, envelope.agentVersion);
    const asked = await this.#asked(runId, trace, ledger);
    const calls = new Map(trace.calls.map((call) => [call.path, call]));
    for (const call of trace.calls) {
      const plan = planCall(call, {
        agent,
        actions: this.app.actions,
        ledger,
        calls,
        asked: (at) => asked.get(at),
      });
      const { restore } = plan;
      if (restore && !this.dryRun) {
        const { from, to } = restore;
        if (
          !(await this.store.recovery.restoreCall({ runId, path: call.path, from, to, call: restore.call }))
        )
          throw new RecoveryMoved(
            `call ${call.path} of run ${runId} is not ${from ?? 'absent'} any more: run it again`,
          );
      }
      // A follow-up may have gone on with the same call.
      if (restore)
        ledger.set(call.path, {
          path: call.path,
          state: restore.to,
          class: restore.call.class,
          action: plan.action,
          reviewNo: null,
        });
      if (restore || (plan.ledger !== 'succeeded' && call.mayBeSent))
        this.#row({ ...plan, runId, counted: restore ? restore.to : 'left' });
    }
  }

  async followUp({ trace, signed }: Trusted, followUp: FollowUpTrace): Promise<void> {
    const { runId } = signed.envelope;
    const { followUpNo, kind, state, path, outcome, temporalRunId, wantedAt, inline } = followUp;
    const known = (await this.store.followUps(runId)).find((each) => each.followUpNo === followUpNo);
    const further = { wanted: 0, entered: 1, done: 2 };
    if (known && further[known.state] >= further[state]) return;
    const possible = kind === 'undo' || path !== null;
    if (possible && !this.dryRun) {
      const killed = trace.end?.stopReason === 'killed';
      await this.store.recovery.restoreFollowUp({
        runId,
        followUpNo,
        kind,
        path: kind === 'retry' ? path : null,
        reason: kind === 'retry' ? 'retry' : inline ? 'failed' : killed ? 'killed' : 'rollback',
        state,
        temporalRunId,
        wantedAt,
        outcome,
      });
    }
    this.#row({
      runId,
      path,
      action: kind,
      history: `${kind} ${followUpNo}: ${state}`,
      ledger: known?.state ?? 'unknown to it',
      done: possible ? `put back as ${state}` : 'nothing: which call it was for is lost; order it again',
      counted: 'followUps',
    });
  }

  /** Closes a run whose workflow is closed; an undo that it asks for and has not done is ordered with it. */
  async end({ trace, signed }: Trusted): Promise<void> {
    const { envelope } = signed;
    const row = await this.store.run(envelope.runId);
    if (trace.open || !trace.end || row?.state === 'closed' || (!row && !this.dryRun)) return;
    const { stopReason, outputRef } = trace.end;
    if (!this.dryRun) {
      await this.#leave(
        this.store,
        { ...envelope, temporalRunId: trace.entered?.temporalRunId ?? null },
        { stopReason, outputRef },
      );
    }
    this.#row({
      runId: envelope.runId,
      path: null,
      action: null,
      history: `closed: ${stopReason}`,
      ledger: row?.state ?? 'unknown to it',
      done: `closed as ${stopReason}`,
      counted: 'runsClosed',
    });
  }

  async #callsOf(runId: string): Promise<Map<string, LedgerCall>> {
    const known = this.#ledger.get(runId);
    if (known) return known;
    const calls = new Map((await this.store.recovery.calls(runId)).map((call) => [call.path, call]));
    this.#ledger.set(runId, calls);
    return calls;
  }

  /** Names of what was asked for, in steps that came with the backup: their arguments are not lost. */
  async #asked(
    runId: string,
    trace: WorkflowTrace,
    ledger: ReadonlyMap<string, LedgerCall>,
  ): Promise<Map<string, (string | null)[]>> {
    const asked = new Map<string, (string | null)[]>();
    for (const source of new Set(trace.calls.map((call) => call.source))) {
      if (ledger.get(source)?.state !== 'succeeded') continue;
      const step: StoredPayload | undefined = await this.store.payload(runId as RunId, source);
      if (step?.kind === 'model' && !step.lost)
        asked.set(
          source,
          step.toolCalls.map(({ name }) => actionOfToolName(name)),
        );
    }
    return asked;
  }

  #row({ counted, ...row }: RecoveryRow & { counted: string }): void {
    const { runId, path, action, history, ledger, done } = row;
    this.rows.push({ runId, path, action, history, ledger, done });
    this.counts[counted] = (this.counts[counted] ?? 0) + 1;
  }
}
