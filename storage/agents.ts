import { Agent } from '../contracts/agent';
import type { PlatformStore } from '../contracts/platform-ports';
import type { TenantStore } from '../contracts/ports';
import { Recent } from '../contracts/recent';
import type { PlatformSession, TenantSession } from './session';

/** Versions kept, up to about 30 kB each. */
const VERSIONS_KEPT = 500;

/** Versions of agents that this host has read, of one environment: a version never changes. */
export type KnownAgents = Recent<Agent>;
export const knownAgents = (): KnownAgents => new Recent(VERSIONS_KEPT);

/** Agents are the platform's: a tenant reads them, its policy says which of them it may use. */
export function agentsOf(session: TenantSession, known: KnownAgents): Pick<TenantStore, 'agent'> {
  return {
    async agent(agentId, version) {
      const key = `${agentId} ${version}`;
      const kept = version === undefined ? undefined : known.get(key);
      if (kept) return kept;
      const [row] = await session.call<{ definition: unknown }>(
        'select bulkhead.agent_definition($3, $1, $2) as definition',
        [agentId, version ?? null, session.scope.environment],
      );
      if (!row?.definition) return undefined;
      const agent = Agent.parse(row.definition);
      if (version !== undefined) known.put(key, agent);
      return agent;
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
