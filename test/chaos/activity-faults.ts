import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';

/**
 * Faults of activities, each for one tenant: what a worker's trouble looks like to the workflows. A test puts
 * {@link withFaults} around the activity registry with `jest.mock`, so that the product's own hosts serve faulty
 * activities and no product code knows.
 */
export const ACTIVITY_FAULTS = {
  repeat: 'runs twice each time, one after the other; the second answer counts',
  before: 'its first attempt fails before it did anything; Temporal tries again',
  after: 'its first attempt does its work, and its answer is lost; Temporal tries again',
  never: 'fails for good in the run’s own workflow before it did anything',
  unheard: 'does its work in the run’s own workflow, and fails for good',
} as const;
export type ActivityFault = keyof typeof ACTIVITY_FAULTS;

interface Planned {
  readonly activity: string;
  readonly fault: ActivityFault;
  /** How often it was met. */
  met: number;
}

/** By tenant; `platform` for activities of the sweep. */
const planned = new Map<string, Planned[]>();

export function planFault(tenant: string, activity: string, fault: ActivityFault): void {
  planned.set(tenant, [...(planned.get(tenant) ?? []), { activity, fault, met: 0 }]);
}

/** How often the fault was met so far: a harness whose fault nobody met has shown nothing. */
export const faultsMet = (tenant: string, activity: string, fault: ActivityFault): number =>
  planned.get(tenant)?.find((one) => one.activity === activity && one.fault === fault)?.met ?? 0;

export function forgetFaults(tenant: string): void {
  planned.delete(tenant);
}

const injected = (activity: string, nonRetryable: boolean): ApplicationFailure =>
  ApplicationFailure.create({ type: 'Injected', message: `${activity} was made to fail`, nonRetryable });

type Activity = (...args: unknown[]) => Promise<unknown>;

/** The activities, each meeting the faults that are planned for it and its tenant. */
export function withFaults<T extends object>(activities: T): T {
  return Object.fromEntries(
    Object.entries(activities).map(([name, activity]) => [name, faulty(name, activity as Activity)]),
  ) as T;
}

function faulty(name: string, activity: Activity): Activity {
  return async (...args) => {
    const { workflowExecution, workflowType } = Context.current().info;
    const tenant = /^tenant\/([^/]+)\//.exec(workflowExecution?.workflowId ?? '')?.[1] ?? 'platform';
    let done: { answer: unknown } | undefined;
    for (const fault of planned.get(tenant) ?? []) {
      if (fault.activity !== name) continue;
      const own = workflowType === 'agentRun';
      switch (fault.fault) {
        case 'repeat':
          fault.met += 1;
          done = { answer: await activity(...args) };
          break;
        case 'before':
          if (fault.met++ === 0) throw injected(name, false);
          break;
        case 'after':
          if (fault.met++ > 0) break;
          await activity(...args);
          throw injected(name, false);
        case 'never':
          if (!own) break;
          fault.met += 1;
          throw injected(name, true);
        case 'unheard':
          if (!own) break;
          fault.met += 1;
          await activity(...args);
          throw injected(name, true);
      }
    }
    // Of a repetition the first answer is thrown away.
    return done ? await activity(...args) : await activity(...args);
  };
}
