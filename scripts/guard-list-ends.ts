import type { Guard } from './guard-list';

/** What ends in time whatever the other side does: callers that wait, calls that are late, runs that are over (promises Q5, N3, N4, O1). */
export const END_GUARDS: readonly Guard[] = [
  {
    name: 'a caller that has stopped waiting before it began to',
    file: 'client/run.ts',
    find: `either.throwIfAborted();
      const ends = this.ports.temporal.withAbortSignal(either, () =>
        this.ports.temporal.workflow.getHandle(this.workflowId).result(),
      );
      // Temporal's client minds a signal that is aborted while a poll is under way, not one that was between two of them.
      await orAborted(ends, either);`,
    put: 'await this.ports.temporal.withAbortSignal(either, () => this.ports.temporal.workflow.getHandle(this.workflowId).result());',
    tests: ['test/client/result'],
    titles: 'Q5 an impatient caller',
  },
  {
    name: 'an action that does not heed its signal is left behind',
    file: 'activities/perform.ts',
    find: 'await heeding(session.io, call.act)',
    put: 'await call.act(session.io)',
    tests: ['test/runs/unheeded'],
    titles: 'N3 Q5 an action',
  },
  {
    name: 'the end of a run does not wait for a lease in a slot',
    file: 'activities/lifecycle.ts',
    find: 'if (performance.now() > patience)',
    put: 'if (performance.now() < 0)',
    tests: ['test/workflows/leaving'],
    titles: 'N4 Q5 a run that is over',
  },
  {
    name: 'a result that a person tells taints its run',
    file: 'contracts/shown.ts',
    find: 'dataClasses: action.resultClasses,',
    put: 'dataClasses: [],',
    tests: ['test/client/after'],
    titles: 'T3 what is said',
  },
  {
    name: 'facts that a person tells are held against their schema',
    file: 'contracts/shown.ts',
    find: "(action.facts.schema.parse(action.facts.from(args, result)) as Shown['facts'])",
    put: 'action.facts.from(args, result)',
    tests: ['test/client/after'],
    titles: 'T3 what is said',
  },
  {
    name: 'a standby is the database’s trouble',
    file: 'storage/fault.ts',
    find: "'25006',",
    put: '',
    tests: ['test/storage/pool'],
    titles: 'T3 a node that only reads',
  },
];
