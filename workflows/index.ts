export { agentRun } from './agent-run';
export { platformSweep } from './platform-sweep';
export { retryCall } from './retry-call';
export { tenantControl } from './tenant-control';
export { undoRun } from './undo-run';
export { interceptors } from './interceptors';
