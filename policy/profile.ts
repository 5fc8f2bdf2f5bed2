import { z } from 'zod';
import { ActionName, Capability, Environment, WorkspaceId } from '../contracts/ids';
import { ActionGlob, AgentGlob, HostGlob, ModelGlob } from './globs';

/** What decisions name where no rule decided. No rule may take one of these as its id. */
export const DEFAULT_DENY = 'default-deny';
export const EVALUATION_ERROR = 'evaluation-error';

const MAX_RULES = 500;
const MAX_LIST = 200;

const RuleId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, 'a rule id is 1 to 64 of a-z, 0-9, _ and -')
  .refine(
    (id) => id !== DEFAULT_DENY && id !== EVALUATION_ERROR,
    'decisions use this id themselves: choose another',
  );

const notEmpty = <T extends z.ZodType>(item: T, remedy: string) =>
  z
    .array(item)
    .max(MAX_LIST)
    .refine((list) => list.length > 0, { message: 'an empty list matches nothing', params: { remedy } });

/** A Cedar expression. Longer ones are split into rules; the limits of nesting are in `expressions.ts`. */
const Expression = z
  .string({
    error: ({ code }) =>
      code === 'invalid_type'
        ? 'write a Cedar expression, in quotes where YAML would read it as something else'
        : undefined,
  })
  .min(1)
  .max(2_000);

const isAllowOfEverything = (rule: unknown): boolean =>
  typeof rule === 'object' &&
  rule !== null &&
  'effect' in rule &&
  rule.effect === 'allow' &&
  !('actions' in rule);

/**
 * A rule. What it leaves out does not narrow it: no `agents` means every agent, no `actions` (forbid only) every
 * action and model call, no `destinations` any destination or none. Everything it names must hold at once.
 */
export const Rule = z
  .strictObject({
    id: RuleId,
    effect: z.enum(['allow', 'forbid']),
    agents: notEmpty(AgentGlob, 'name agents, or leave `agents` out for all of them').optional(),
    actions: notEmpty(ActionGlob, 'name actions, or write ["*"] for all of them').optional(),
    workspaces: notEmpty(
      WorkspaceId,
      'name workspaces, or leave `workspaces` out for all of them',
    ).optional(),
    destinations: notEmpty(HostGlob, 'name hosts, or leave `destinations` out').optional(),
    when: Expression.optional(),
    unless: Expression.optional(),
  })
  .refine((rule) => !isAllowOfEverything(rule), {
    // Also asked where other fields are wrong, so that every mistake is told at once.
    when: () => true,
    path: ['actions'],
    message: 'an allow rule names its actions',
    params: { remedy: 'add `actions`; to allow every action, write actions: ["*"]' },
  });
export type Rule = z.infer<typeof Rule>;

/** Who may use a credential. */
export const SecretGrant = z.strictObject({
  capability: Capability,
  agents: notEmpty(AgentGlob, 'name the agents that may use it, or remove the entry'),
});
export type SecretGrant = z.infer<typeof SecretGrant>;

/** An acceptance, in words, that an action is not read back after it was done. */
export const ReadBackWaiver = z.strictObject({
  action: ActionName,
  because: z
    .string()
    .max(500)
    .refine((words) => words.trim().length >= 10, {
      message: 'this is no reason',
      params: { remedy: 'say in words why no read-back is acceptable' },
    }),
});
export type ReadBackWaiver = z.infer<typeof ReadBackWaiver>;

/**
 * What a tenant's agents may do: a PolicyProfile document. Only what is enforced can be written; fields of later
 * versions are refused rather than stored and ignored.
 */
export const PolicyProfile = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('PolicyProfile'),
  metadata: z.strictObject({
    name: z
      .string()
      .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'a name is 1 to 64 of a-z, 0-9, _ and -, a letter first'),
  }),
  environments: z.array(Environment).min(1).max(50),
  rules: z.array(Rule).max(MAX_RULES).default([]),
  models: z
    .strictObject({
      allow: z
        .array(z.strictObject({ model: ModelGlob }))
        .max(MAX_LIST)
        .default([]),
    })
    .prefault({}),
  secrets: z.array(SecretGrant).max(MAX_LIST).default([]),
  /** Whether a run waits for a person where it is not known if a write happened, or ends. */
  onUnknownOutcome: z.enum(['review', 'stop']).default('stop'),
  /** Whether a kill undoes what the killed runs did. */
  onKill: z.strictObject({ compensate: z.boolean() }).default({ compensate: false }),
  readBackWaived: z.array(ReadBackWaiver).max(MAX_LIST).default([]),
});
export type PolicyProfile = z.infer<typeof PolicyProfile>;

/** The parts of a profile that can be looked into, each at its index in the document. */
export interface ProfileParts {
  /** Not `whole` where fields of the rule are wrong: those are left out of it. */
  readonly rules: readonly { readonly index: number; readonly rule: Rule; readonly whole: boolean }[];
  readonly secrets: readonly { readonly index: number; readonly grant: SecretGrant }[];
  readonly waivers: readonly { readonly index: number; readonly waiver: ReadBackWaiver }[];
}

/** Of a document that may be wrong elsewhere, so that what can be checked is checked, and told, at once. */
export function profileParts(raw: unknown): ProfileParts {
  const list = (name: string): unknown[] => {
    const value = isMapping(raw) ? raw[name] : undefined;
    return Array.isArray(value) ? value.slice(0, MAX_RULES) : [];
  };
  const rules = list('rules').flatMap((value, index) => {
    const rule = Rule.safeParse(value).data;
    if (rule) return [{ index, rule, whole: true }];
    return isMapping(value) ? [{ index, rule: rightFields(value, index), whole: false }] : [];
  });
  const secrets = list('secrets').flatMap((value, index) => {
    const grant = SecretGrant.safeParse(value).data;
    return grant ? [{ index, grant }] : [];
  });
  const waivers = list('readBackWaived').flatMap((value, index) => {
    const waiver = ReadBackWaiver.safeParse(value).data;
    return waiver ? [{ index, waiver }] : [];
  });
  return { rules, secrets, waivers };
}

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function rightFields(value: Record<string, unknown>, index: number): Rule {
  const right = Object.entries(Rule.shape).flatMap(([name, schema]) => {
    const field = schema.safeParse(value[name]);
    return field.success && field.data !== undefined ? [[name, field.data] as const] : [];
  });
  return { id: `rules[${index}]`, effect: 'forbid', ...Object.fromEntries(right) };
}

/**
 * Fields and values of the policy language that no part of Bulkhead enforces yet. They are refused by name, so that
 * nobody believes in a rule that is only stored.
 */
export const NOT_YET: Readonly<Record<string, ReadonlySet<string>>> = {
  'PolicyProfile ': new Set(['retention']),
  'PolicyProfile rules[]': new Set(['approvers', 'dataClasses', 'exceptDestinations']),
  'PolicyProfile rules[].effect': new Set(['approve', 'suggest']),
  'PolicyProfile models.allow[]': new Set(['dataClasses']),
  'QuotaClass ': new Set(['weight', 'perAction', 'perAgent']),
  'QuotaClass lane': new Set(['shared']),
  'QuotaClass limits': new Set([
    'runStartsPerMinute',
    'queuedRuns',
    'concurrentRuns',
    'modelTokensPerMinute',
    'modelTokensPerDay',
    'stepsPerDay',
    'activeSecondsPerDay',
    'spendMicroUsdPerDay',
    'storageBytes',
    'memoryBytes',
    'highRiskWritesPerDay',
  ]),
  'QuotaClass perRun': new Set(['seconds', 'spendMicroUsd']),
};
