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
  const read = (argument ?? {}) as Readonly<Record<string, unknown>>;
  // Somebody who forgot the word `scope` meant one all the same: it is not the whole tenant because of that.
  const bare = read['scope'] === undefined && (read['kind'] ?? read['id'] ?? null) !== null;
  const { scope = bare ? { kind: read['kind'], id: read['id'] } : undefined, reason, actor, hard } = read;
  if (op === 'release' && (scope === undefined || bare)) return EXAMPLE;
  const unclear = scope === undefined || isTenantScope(scope) ? undefined : ONLY_TENANTS;
  if (unclear !== undefined && !bare) return unclear;
  return {
    op,
    scope: { kind: 'tenant', ...named(scope) },
    reason: text(reason, 'no reason given'),
    actor: text(actor, 'somebody with access to Temporal'),
    ...(hard === true && op === 'kill' && { hard }),
    ...(unclear !== undefined && { unclear }),
  };
}

const EXAMPLE = 'write {"scope":{"kind":"tenant"},"reason":"…","actor":"…"}';
const ONLY_TENANTS = `only {"kind":"tenant"} is a scope so far. ${EXAMPLE}`;

function isTenantScope(scope: unknown): boolean {
  return typeof scope === 'object' && scope !== null && 'kind' in scope && scope.kind === 'tenant';
}

/** The tenant that a scope names, as text; a blank names none. */
function named(scope: unknown): { id?: string } {
  const { id } = (scope ?? {}) as { id?: unknown };
  if (id === undefined || id === null || id === '') return {};
  return { id: typeof id === 'string' ? id.slice(0, LONGEST) : JSON.stringify(id).slice(0, LONGEST) };
}

function text(value: unknown, otherwise: string): string {
  return typeof value === 'string' && value.trim() !== '' ? value.slice(0, LONGEST) : otherwise;
}
