import type { ControlCommand } from '../contracts/workflow-io';
import { isMalformed } from './payload-converter';

const LONGEST = 500;

/**
 * Reads what a person typed into Temporal's UI or CLI. No argument at all means the whole tenant for `kill`: whoever
 * types it is in a hurry. `release` must say its scope: opening by accident is the worse mistake. Answers the command,
 * or in words why it is none.
 */
export function readCommand(op: ControlCommand['op'], argument: unknown): ControlCommand | string {
  if (isMalformed(argument)) return `the argument of ${op} could not be read: send plain JSON`;
  const nothing = argument === undefined || argument === null;
  if (nothing && op === 'release') return EXAMPLE;
  if (!nothing && (typeof argument !== 'object' || Array.isArray(argument))) return EXAMPLE;
  const { scope, reason, actor } = (argument ?? {}) as { scope?: unknown; reason?: unknown; actor?: unknown };
  if (op === 'release' && scope === undefined) return EXAMPLE;
  if (scope !== undefined && !isTenantScope(scope))
    return `only {"kind":"tenant"} is a scope so far. ${EXAMPLE}`;
  return {
    op,
    scope: { kind: 'tenant' },
    reason: text(reason, 'no reason given'),
    actor: text(actor, 'somebody with access to Temporal'),
  };
}

const EXAMPLE = 'write {"scope":{"kind":"tenant"},"reason":"…","actor":"…"}';

function isTenantScope(scope: unknown): boolean {
  return typeof scope === 'object' && scope !== null && 'kind' in scope && scope.kind === 'tenant';
}

function text(value: unknown, otherwise: string): string {
  return typeof value === 'string' && value.trim() !== '' ? value.slice(0, LONGEST) : otherwise;
}
