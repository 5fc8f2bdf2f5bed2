import type { z } from 'zod';
import { Limits, NamedLimits, PerRun } from './documents';
import { ActionName, AgentId } from './ids';
import type { Refusal } from './refusal';

/** Quotas as people see and set them, and refusals that a host has answered by itself. */

/** One layer of a quota as it stands. Numbers are in the limit's own unit, as its name says it; `null` where there is none. */
export interface QuotaLayer {
  /** `''`: the tenant's own. Else `agent:<id>`, `action:<name>`, or `run`: the budget of each run. */
  readonly of: string;
  /** As documents name it. */
  readonly limit: string;
  readonly cap: number | null;
  readonly used: number | null;
  /** The part of `used` that calls in flight hold until they settle. */
  readonly reserved: number | null;
  readonly free: number | null;
  /** When all of it is free again if nothing more is used: ISO time and milliseconds. `null` where no time frees it. */
  readonly freesAt: string | null;
  readonly freesInMs: number | null;
}

/** What a tenant has of the shared capacity that it names, in calls at a time, as it was last divided. */
export interface SharedCapacity {
  readonly name: string;
  /** Of all tenants that name it. */
  readonly callsInFlight: number;
  /** What this tenant may have in flight now, and has. */
  readonly share: number;
  readonly used: number;
  /** What its quota class guarantees, and what there is of that: less where more is guaranteed in all than the capacity has. */
  readonly promised: number;
  readonly guaranteed: number;
}

/** The quota of a tenant as it stands at one moment of the ledger's clock. */
export interface QuotaState {
  readonly at: string;
  /** By which the tenant's days begin and end. */
  readonly timeZone: string;
  readonly quotaClass: string;
  /** What is set for this tenant alone, over its class. */
  readonly overrides: QuotaOverrides;
  readonly layers: readonly QuotaLayer[];
  /** `null` where the tenant names none: its own limits alone bind. */
  readonly capacity: SharedCapacity | null;
}

type Values = Readonly<Record<string, number>>;
/** Limits of one tenant alone, put over those of its class. */
export interface QuotaOverrides {
  readonly limits?: Values;
  readonly perRun?: Values;
  readonly perAction?: Readonly<Record<string, Values>>;
  readonly perAgent?: Readonly<Record<string, Values>>;
}

/** Whose limits are set: the tenant's own, those of one agent or action, or the budget of each run. */
export type QuotaOf =
  { readonly kind: 'tenant' | 'run' } | { readonly kind: 'action' | 'agent'; readonly name: string };

/** One limit to be set; `null` returns to the class's own. */
export interface QuotaChange {
  readonly limit: string;
  readonly value: number | null;
}

const FORMS = { tenant: Limits, run: PerRun, action: NamedLimits, agent: NamedLimits };

/** Names of the limits that there are, by whose they are. */
export const limitNames = (of: QuotaOf): string[] => Object.keys(FORMS[of.kind].shape);

/** What is wrong with a change, in words; `undefined` where nothing is. */
export function mistakeIn(of: QuotaOf, { limit, value }: QuotaChange): string | undefined {
  const shape: Readonly<Record<string, z.ZodType>> = FORMS[of.kind].shape;
  const form = Object.hasOwn(shape, limit) ? shape[limit] : undefined;
  if (!form) return `there is no limit ${limit}`;
  const named = of.kind === 'action' ? ActionName : of.kind === 'agent' ? AgentId : undefined;
  if (named && 'name' in of) {
    const issue = named.safeParse(of.name).error?.issues[0];
    if (issue) return issue.message;
  }
  return value === null ? undefined : form.safeParse(value).error?.issues[0]?.message;
}

/** The overrides with the changes made in them. Throws a RangeError, with what is wrong, where one of them is. */
export function changed(
  overrides: QuotaOverrides,
  of: QuotaOf,
  changes: readonly QuotaChange[],
): QuotaOverrides {
  const wrong = changes.flatMap((change) => mistakeIn(of, change) ?? []);
  if (wrong.length > 0) throw new RangeError(wrong.join('; '));
  const over = (values: Values | undefined): Values =>
    changes.reduce<Values>(
      (kept, { limit, value }) => ({ ...without(kept, limit), ...(value !== null && { [limit]: value }) }),
      values ?? {},
    );
  if (of.kind === 'tenant') return { ...overrides, limits: over(overrides.limits) };
  if (of.kind === 'run') return { ...overrides, perRun: over(overrides.perRun) };
  if (!('name' in of)) return overrides;
  const part = of.kind === 'action' ? 'perAction' : 'perAgent';
  return { ...overrides, [part]: { ...overrides[part], [of.name]: over(overrides[part]?.[of.name]) } };
}

const without = (values: Values, name: string): Values =>
  Object.fromEntries(Object.entries(values).filter(([each]) => each !== name));

/** Refusals alike that a host answered from memory: by one rule and version, of one action of one run. */
export interface RepeatedRefusal {
  readonly runId: string;
  readonly action: string;
  readonly refusal: Refusal;
  readonly count: number;
}
