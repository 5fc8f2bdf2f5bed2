import { Agent, AgentSpec } from '../contracts/agent';
import { digestOf } from '../contracts/digest';
import type { z } from 'zod';

/**
 * Declares an agent and gives it its version, the digest of its whole definition: another prompt, model, tool or
 * budget is another version. Throws a TypeError that names the agent and every mistake.
 */
export function defineAgent(spec: z.input<typeof AgentSpec>): Agent {
  const parsed = AgentSpec.safeParse(spec);
  if (!parsed.success) {
    const mistakes = parsed.error.issues
      .map((issue) => `${issue.path.join('.')}: ${issue.message}`)
      .join('; ');
    throw new TypeError(`agent ${spec.id}: ${mistakes}`);
  }
  return Agent.parse({ ...parsed.data, version: digestOf(parsed.data).slice(0, 12) });
}
