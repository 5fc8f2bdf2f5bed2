import { z } from 'zod';
import { ActionName, AgentId, AgentVersion } from './ids';

/** `provider/model`; the provider is a system of the tenant's connections. */
export const ModelName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,39}\/[A-Za-z0-9._-]{1,100}$/, 'a model is provider/model');

/** An agent as its author declares it. */
export const AgentSpec = z.strictObject({
  id: AgentId,
  class: z.string().regex(/^[a-z][a-z0-9_]{0,39}$/),
  model: ModelName,
  instructions: z.string().min(1).max(20_000),
  actions: z.array(ActionName).min(1).max(100),
  /** What becomes of its writes when a run of it fails: they stay, or are undone in reverse order. */
  onFailure: z.enum(['keep', 'undo']).default('keep'),
  budget: z.strictObject({
    steps: z.int().positive().max(10_000),
    maxOutputTokens: z.int().positive().max(100_000),
  }),
});
export type AgentSpec = z.infer<typeof AgentSpec>;

/** An agent with its version: the digest of its definition. A run keeps the version it was accepted with. */
export const Agent = AgentSpec.extend({ version: AgentVersion });
export type Agent = z.infer<typeof Agent>;
