import type { Command } from 'commander';
import { noun, verb, withRuntime, type Common } from './command';
import type { CliContext } from './context';
import { UsageError } from './exit';
import { printRows } from './output';

/** `bulkhead agent list`: the agents of the app. */
export function registerAgent(program: Command, context: CliContext): void {
  const group = noun(program, 'agent', 'the agents that runs can ask for', 'bulkhead agent list');
  verb(group, 'list', 'the agents of the app (BULKHEAD_APP), which workers register when they start', [
    'bulkhead agent list',
  ]).action(async (options: Common) =>
    withRuntime(context, options, async (runtime) => {
      const app = await runtime.app();
      if (!app) throw new UsageError('no app is named: set BULKHEAD_APP to the module that exports `app`');
      printRows(
        context,
        options.output,
        [...app.agents.values()],
        {
          AGENT: (agent) => agent.id,
          VERSION: (agent) => agent.version,
          CLASS: (agent) => agent.class,
          MODEL: (agent) => agent.model,
          ACTIONS: (agent) => agent.actions.join(', '),
          STEPS: (agent) => agent.budget.steps,
        },
        'the app has no agents',
      );
    }),
  );
}
