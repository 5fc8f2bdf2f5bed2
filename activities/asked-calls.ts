import type { Action } from '../contracts/action';
import { positionPath, type Position } from '../contracts/calls';
import type { Envelope } from '../contracts/envelope';
import type { TenantStore } from '../contracts/ports';
import { failure } from './failure';
import { missing } from './rewound';
import type { StoredSteps } from './stored-steps';
import type { AskedCall } from './tool-call';
import { actionOfToolName } from '../contracts/tool-names';

/** Finds what models have asked for: the arguments of a call are in the stored step, never in a history. */
export interface AskedCalls {
  /** The `index`-th tool call of the step at `source`. Throws `ContractBroken` where there is none. */
  ofStep(
    store: TenantStore,
    envelope: Envelope,
    asked: { position: Position; source: Position; index: number; seq: number },
  ): Promise<AskedCall>;
  /** The call at a path, as the ledger names it: `3.2` is the second tool call of step 3. */
  ofPath(store: TenantStore, envelope: Envelope, asked: { path: string; seq: number }): Promise<AskedCall>;
}

export function createAskedCalls(parts: {
  steps: StoredSteps;
  actions: ReadonlyMap<string, Action>;
}): AskedCalls {
  const { steps, actions } = parts;
  const ofStep: AskedCalls['ofStep'] = async (store, envelope, { position, source, index, seq }) => {
    const [step, agent] = await Promise.all([
      steps.read(store, envelope.rootRunId, positionPath(source)),
      store.agent(envelope.agentId, envelope.agentVersion),
    ]);
    const asked = step?.toolCalls[index];
    if (!asked || !agent)
      throw await missing(
        store,
        { runId: envelope.rootRunId, path: positionPath(source), seq },
        `no tool call ${index} is stored for step ${source.step} of this run`,
      );
    const name = actionOfToolName(asked.name);
    const action = agent.actions.some((own) => own === name) ? actions.get(name) : undefined;
    // A copy: an action may change what it is given, and the step is kept.
    return {
      position,
      seq,
      asked: structuredClone(asked),
      lost: step?.lost === true,
      action,
      agentClass: agent.class,
    };
  };
  return {
    ofStep,
    ofPath: async (store, envelope, { path, seq }) => {
      const position = positionOf(path);
      if (!position || position.ordinal === 0)
        throw failure('ContractBroken', `${path} is no tool call of this run`);
      const source = { step: position.step, ordinal: 0 };
      return await ofStep(store, envelope, { position, source, index: position.ordinal - 1, seq });
    },
  };
}

/** Undoes `positionPath`; `undefined` for the path of anything else. */
function positionOf(path: string): Position | undefined {
  const match = /^(\d{1,9})\.(\d{1,9})$/.exec(path);
  return match ? { step: Number(match[1]), ordinal: Number(match[2]) } : undefined;
}
