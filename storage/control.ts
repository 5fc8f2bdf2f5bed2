import { canonicalJson } from '../contracts/digest';
import type { TenantStore } from '../contracts/ports';
import type { ControlState } from '../contracts/workflow-io';
import type { TenantSession } from './session';
import { callsSql } from './sql';
import { storableText } from './storable';

/** Told after every act of control, to whoever listens; its payload is `tenant/environment`. Only a hint: polling control versions is the truth. */
export const CONTROL_CHANNEL = 'bulkhead_control';

interface StateRow {
  readonly mode: string;
  readonly fence_epoch: string;
  readonly fenced_at: string | null;
  readonly contained_at: string | null;
  readonly drained_at: string | null;
  readonly reason: string | null;
  readonly actor: string | null;
}

/**
 * Operators' acts on one tenant, over the control pool. Each is one statement and answers the state after it.
 * Times of the state belong to the last fence, also after a release. Characters of an operator's words that cannot be stored
 * are replaced: no word keeps a kill from its fence.
 */
export function controlOf(
  session: TenantSession,
): Pick<TenantStore, 'control' | 'kill' | 'release' | 'revokeLeases' | 'markContained' | 'markDrained'> {
  const { tenantId, environment } = session.scope;

  const control = async (): Promise<ControlState | undefined> => {
    const [row] = await session.call<StateRow>(callsSql('control_state', 2), [tenantId, environment]);
    return (
      row && {
        mode: row.mode,
        fenceEpoch: Number(row.fence_epoch),
        fencedAt: row.fenced_at,
        containedAt: row.contained_at,
        drainedAt: row.drained_at,
        reason: row.reason,
        actor: row.actor,
      }
    );
  };
  const act = async (sql: string, params: unknown[]): Promise<ControlState> => {
    await session.call(sql, [tenantId, environment, ...params]);
    // In a transaction of its own: a full queue must not undo a fence, and a lost hint costs one poll.
    await session
      .call('select pg_notify($1, $2)', [CONTROL_CHANNEL, `${tenantId}/${environment}`])
      .catch(() => []);
    const state = await control();
    if (!state) throw new Error(`tenant ${tenantId} has no ledger in ${environment}: create the tenant`);
    return state;
  };

  const actOf = async (sql: string, words: { reason: string; actor: string }): Promise<ControlState> => {
    const reason = storableText(words.reason);
    return await act(sql, [reason, storableText(words.actor), canonicalJson({ reason })]);
  };

  return {
    control,
    kill: (words) => actOf(callsSql('kill_tenant', 5), words),
    release: (words) => actOf(callsSql('release_tenant', 5), words),
    markContained: (fenceEpoch) => act(callsSql('mark_contained', 3), [fenceEpoch]),
    markDrained: (fenceEpoch) => act(callsSql('mark_drained', 3), [fenceEpoch]),
    async revokeLeases() {
      const [row] = await session.call<{ revoked: string }>(callsSql('revoke_leases', 2, 'revoked'), [
        tenantId,
        environment,
      ]);
      return Number(row?.revoked);
    },
  };
}
