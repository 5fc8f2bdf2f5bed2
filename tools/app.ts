import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';

/** What a product brings to Bulkhead: its actions and agents. The module that `BULKHEAD_APP` names exports one as `app`. */
export interface App {
  readonly name: string;
  readonly actions: ReadonlyMap<string, Action>;
  readonly agents: ReadonlyMap<string, Agent>;
}

/** Puts actions and agents together. Throws a TypeError on a name used twice or an agent's action that does not exist. */
export function defineApp(parts: { name: string; actions: Action[]; agents: Agent[] }): App {
  const actions = byName(parts.actions, (action) => action.name, 'action');
  const agents = byName(parts.agents, (agent) => agent.id, 'agent');
  for (const agent of parts.agents) {
    for (const action of agent.actions) {
      if (!actions.has(action))
        throw new TypeError(`agent ${agent.id} uses action ${action}, which this app does not have`);
    }
  }
  return Object.freeze({ name: parts.name, actions, agents });
}

function byName<T>(items: T[], name: (item: T) => string, what: string): ReadonlyMap<string, T> {
  const map = new Map<string, T>();
  for (const item of items) {
    if (map.has(name(item))) throw new TypeError(`${what} ${name(item)} is defined twice`);
    map.set(name(item), item);
  }
  return map;
}
