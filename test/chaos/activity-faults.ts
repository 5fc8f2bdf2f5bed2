import type { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { WORKFLOW } from '../../contracts/names';

/**
 * Faults of activities, each for one tenant: what a worker's trouble looks like to the workflows. A test hands
 * {@link activityFaults} to the product's own hosts as an interceptor of their activities.
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

/** Lets each activity meet the faults that are planned for it and its tenant. */
export const activityFaults: ActivityInterceptorsFactory = ({ info }: Context) => ({
  inbound: {
    async execute(input, next) {
      const tenant = /^tenant\/([^/]+)\//.exec(info.workflowExecution?.workflowId ?? '')?.[1] ?? 'platform';
      for (const fault of planned.get(tenant) ?? [])
        if (fault.activity === info.activityType) await meet(fault, info, () => next(input));
      return await next(input);
    },
  },
});

/** What happens of the fault before the activity runs as always; throws where it does not come to that. */
async function meet(
  fault: Planned,
  { workflowType }: Context['info'],
  runs: () => Promise<unknown>,
): Promise<void> {
  const own = workflowType === WORKFLOW.run;
  switch (fault.fault) {
    case 'repeat':
      fault.met += 1;
      await runs();
      return;
    case 'before':
      if (fault.met++ === 0) throw injected(fault.activity, false);
      return;
    case 'after':
      if (fault.met++ > 0) return;
      await runs();
      throw injected(fault.activity, false);
    case 'never':
      if (!own) return;
      fault.met += 1;
      throw injected(fault.activity, true);
    case 'unheard':
      if (!own) return;
      fault.met += 1;
      await runs();
      throw injected(fault.activity, true);
  }
}
