import { defineApp } from '../../tools/app';
import { app as usual } from '../support/app';

/** Longer than anything here takes on any machine, and than the longest wait of a test. */
const TIMEOUT_MS = 300_000;

/**
 * The product of the other tests, whose calls do not give up by themselves: what is held outside when everything stops is
 * under way then, however long it took to come to that point. Served by the hosts alone; see `createRecoverWorld`.
 */
export const app = defineApp({
  name: usual.name,
  actions: [...usual.actions.values()].map((action) => ({ ...action, timeoutMs: TIMEOUT_MS })),
  agents: [...usual.agents.values()],
});
