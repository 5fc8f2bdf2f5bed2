export { agentRun } from './agent-run';
export { platformSweep } from './platform-sweep';
export { tenantControl } from './tenant-control';
export { interceptors } from './interceptors';
