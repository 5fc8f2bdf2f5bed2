import { z } from 'zod';
import { OUTCOMES, REFUSAL_ORIGINS, type OutcomeKind, type RefusalOrigin } from './states';

const keys = <K extends string>(table: Record<K, unknown>): [K, ...K[]] => Object.keys(table) as [K, ...K[]];

export const OutcomeKindSchema = z.enum(keys<OutcomeKind>(OUTCOMES));
export const RefusalOriginSchema = z.enum(keys<RefusalOrigin>(REFUSAL_ORIGINS));

/**
 * Why a governed call did not run, in the words that every surface shows. `rule` names the deciding rule
 * (`policy`, `control`) or limit (`tenant_cap`); `rules` all of them. `message` is for people and models: it
 * holds no secret and no payload.
 */
export const Refusal = z.strictObject({
  kind: OutcomeKindSchema.exclude(['done']),
  origin: RefusalOriginSchema,
  rule: z.string(),
  rules: z.array(z.string()),
  message: z.string(),
  policyVersion: z.int().nonnegative().optional(),
  /** The limit that binds, and what of it is used, in the limit's own unit. */
  value: z.number().optional(),
  used: z.number().optional(),
  /** Milliseconds until asking again can help; absent where it never will. */
  retryAfterMs: z.int().nonnegative().optional(),
});
export type Refusal = z.infer<typeof Refusal>;
export type RefusalKind = Refusal['kind'];
