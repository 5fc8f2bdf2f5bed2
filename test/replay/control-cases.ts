import { controlWorkflowId } from '../../contracts/workflow-ids';
import { until } from '../support/until';
import type { Case, Ground } from './ground';

const controlOf = ({ stack }: Ground, tenant: string) =>
  stack.temporal.workflow.getHandle(controlWorkflowId(tenant as never, stack.environment));
const shows = (ground: Ground, tenant: string, wanted: object): Promise<unknown> =>
  until(JSON.stringify(wanted), async () => {
    const state = (await ground.stack.store(tenant).control()) as unknown as Record<string, unknown>;
    return Object.entries(wanted).every(([key, value]) =>
      value === 'set' ? state[key] !== null : state[key] === value,
    );
  });

/** The switch of a tenant, and the sweep. */
export const CONTROL_CASES: readonly Case[] = [
  {
    workflow: 'tenantControl',
    name: 'killed-and-released',
    async play(ground) {
      await ground.tenant('switched');
      const control = controlOf(ground, 'switched');
      await control.signal('kill');
      await shows(ground, 'switched', { mode: 'killed', drainedAt: 'set' });
      await control.executeUpdate('release', {
        args: [{ scope: { kind: 'tenant' }, reason: 'over', actor: 'test' }],
      });
      await control.executeUpdate('kill', { args: [] });
      await control.signal('release', { scope: { kind: 'tenant' }, reason: 'over', actor: 'test' });
      await shows(ground, 'switched', { mode: 'normal' });
      return { workflowId: control.workflowId };
    },
  },
  {
    workflow: 'tenantControl',
    name: 'malformed-signals',
    async play(ground) {
      await ground.tenant('garbled');
      const control = controlOf(ground, 'garbled');
      await control.signal('kill', 'the galaxy');
      await control.signal('kil');
      await control.signal('release');
      await control.executeUpdate('release').catch(() => undefined);
      await until(
        'the signals',
        async () => (await control.query<{ malformed: number }>('controlState')).malformed === 3,
      );
      return { workflowId: control.workflowId };
    },
  },
  {
    workflow: 'platformSweep',
    name: 'nothing-to-mend',
    async play({ stack }) {
      const done = await until('a sweep', async () => {
        for await (const { workflowId, runId, status } of stack.temporal.workflow.list({
          query: `WorkflowType = 'platformSweep'`,
        }))
          if (status.name === 'COMPLETED') return { workflowId, runId };
        return undefined;
      });
      return done;
    },
  },
];
