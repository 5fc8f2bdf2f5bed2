import { Agent } from '../contracts/agent';
import type { PlatformStore, TenantStore } from '../contracts/ports';
import type { PlatformSession, TenantSession } from './session';

/** Agents are the platform's: a tenant reads them, its policy says which of them it may use. */
export function agentsOf(session: TenantSession): Pick<TenantStore, 'agent'> {
  return {
    async agent(agentId, version) {
      const [row] = await session.call<{ definition: unknown }>(
        'select bulkhead.agent_definition($3, $1, $2) as definition',
        [agentId, version ?? null, session.scope.environment],
      );
      return row?.definition ? Agent.parse(row.definition) : undefined;
    },
  };
}

/** Keeps a version once; publishing an older one again makes it the current one. */
export function agentPublisher(session: PlatformSession): Pick<PlatformStore, 'publishAgent'> {
  return {
    async publishAgent(agent) {
      await session.call('select bulkhead.publish_agent($1, $2)', [
        session.environment,
        JSON.stringify(Agent.parse(agent)),
      ]);
    },
  };
}
