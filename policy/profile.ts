import { z } from 'zod';
import { ModelName } from '../contracts/agent';
import { ActionName, Capability, Environment } from '../contracts/ids';
import { AgentGlob, ModelGlob } from './globs';
import { DataClasses, MAX_LIST, Rule, isMapping, notEmpty, rightFields } from './rule-fields';

const MAX_RULES = 500;
/** Each is asked in its turn, while a run waits. */
const MAX_FALLBACKS = 5;

/** A model that may be called, and with which data in the run. */
export const ModelEntry = z.strictObject({ model: ModelGlob, dataClasses: DataClasses.optional() });
export type ModelEntry = z.infer<typeof ModelEntry>;

/** Models that answer where the provider of another one is in trouble, in their order. */
export const ModelFallback = z.strictObject({
  model: ModelName,
  to: notEmpty(ModelName, 'name the models that may answer in its place, or remove the entry').max(
    MAX_FALLBACKS,
  ),
});
export type ModelFallback = z.infer<typeof ModelFallback>;

const Days = z.int().positive().max(36_500);
/**
 * How long what is stored of a tenant is kept, and which data is taken out of it. Checked and stored with the profile;
 * nothing deletes or redacts by it yet, and docs/policies.md says so.
 */
export const Retention = z.strictObject({
  payloadDays: Days.optional(),
  memoryDays: Days.optional(),
  journalDays: Days.optional(),
  redact: z
    .array(z.string().regex(/^[a-z][a-z0-9_]{0,39}$/, 'what is redacted is 1 to 40 of a-z, 0-9 and _'))
    .max(MAX_LIST)
    .default([]),
});
export type Retention = z.infer<typeof Retention>;

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
 * What a tenant's agents may do: a PolicyProfile document. Only what is enforced can be written, `retention` apart;
 * fields of later versions are refused rather than stored and ignored.
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
      allow: z.array(ModelEntry).max(MAX_LIST).default([]),
      fallback: z.array(ModelFallback).max(MAX_LIST).default([]),
    })
    .prefault({}),
  secrets: z.array(SecretGrant).max(MAX_LIST).default([]),
  /** Whether a run waits for a person where it is not known if a write happened, or ends. */
  onUnknownOutcome: z.enum(['review', 'stop']).default('stop'),
  /** Whether a kill undoes what the killed runs did. */
  onKill: z.strictObject({ compensate: z.boolean() }).default({ compensate: false }),
  readBackWaived: z.array(ReadBackWaiver).max(MAX_LIST).default([]),
  retention: Retention.optional(),
});
export type PolicyProfile = z.infer<typeof PolicyProfile>;

/** The parts of a profile that can be looked into, each at its index in the document. */
export interface ProfileParts {
  /** Not `whole` where fields of the rule are wrong: those are left out of it. */
  readonly rules: readonly { readonly index: number; readonly rule: Rule; readonly whole: boolean }[];
  readonly models: readonly { readonly index: number; readonly entry: ModelEntry }[];
  readonly fallbacks: readonly { readonly index: number; readonly fallback: ModelFallback }[];
  readonly secrets: readonly { readonly index: number; readonly grant: SecretGrant }[];
  readonly waivers: readonly { readonly index: number; readonly waiver: ReadBackWaiver }[];
}

/** Of a document that may be wrong elsewhere, so that what can be checked is checked, and told, at once. */
export function profileParts(raw: unknown): ProfileParts {
  const list = (name: string, within: unknown = raw): unknown[] => {
    const value = isMapping(within) ? within[name] : undefined;
    return Array.isArray(value) ? value.slice(0, MAX_RULES) : [];
  };
  const rules = list('rules').flatMap((value, index) => {
    const rule = Rule.safeParse(value).data;
    if (rule) return [{ index, rule, whole: true }];
    return isMapping(value) ? [{ index, rule: rightFields(value, index), whole: false }] : [];
  });
  const models = list('allow', isMapping(raw) ? raw['models'] : undefined).flatMap((value, index) => {
    const entry = ModelEntry.safeParse(value).data;
    return entry ? [{ index, entry }] : [];
  });
  const fallbacks = list('fallback', isMapping(raw) ? raw['models'] : undefined).flatMap((value, index) => {
    const fallback = ModelFallback.safeParse(value).data;
    return fallback ? [{ index, fallback }] : [];
  });
  const secrets = list('secrets').flatMap((value, index) => {
    const grant = SecretGrant.safeParse(value).data;
    return grant ? [{ index, grant }] : [];
  });
  const waivers = list('readBackWaived').flatMap((value, index) => {
    const waiver = ReadBackWaiver.safeParse(value).data;
    return waiver ? [{ index, waiver }] : [];
  });
  return { rules, models, fallbacks, secrets, waivers };
}
