import { log } from '@temporalio/activity';
import type { TenantStore } from '../contracts/ports';
import { isStorageBusy } from '../contracts/storage-busy';
import type { AppliedControl, ControlCommand, ControlState } from '../contracts/workflow-io';

/** What a kill is journaled with where the database refuses its own words. */
const WORDLESS = {
  reason: 'the words of this kill could not be stored',
  actor: 'unknown: see the log of the control host',
};
const HARD =
  '`hard` is not known yet: this kill is as without it, and runs that do not end by themselves are terminated after the drain grace';

/**
 * Applies an inbox (promise O1), kills first: a release that came before a kill was sent by somebody who had not seen it, so it
 * is void. What cannot be applied for a reason that no waiting mends is answered as refused and keeps no other from its turn; a
 * kill is then applied without its words. Throws where the database is busy or away, for all of it to be tried again.
 *
 * @param before the state that stands where nothing is applied.
 */
export async function applyCommands(
  store: TenantStore,
  commands: readonly ControlCommand[],
  before: ControlState,
): Promise<AppliedControl> {
  const asked = commands.map((command, index) => ({ ...command, index }));
  const refused = asked.flatMap((command) => {
    const why = objection(command, store.scope.tenantId);
    return why === undefined ? [] : [{ index: command.index, why }];
  });
  const standing = asked.filter(({ index }) => !refused.some((other) => other.index === index));
  const lastKill = standing.findLastIndex(({ op }) => op === 'kill');
  const inOrder = standing
    .filter(({ op }, at) => op === 'kill' || at > lastKill)
    .sort((a, b) => Number(a.op !== 'kill') - Number(b.op !== 'kill'));

  let state = before;
  for (const { index, op, reason, actor } of inOrder) {
    if (op === 'kill') state = await kill(store, { reason, actor });
    else {
      const released = await release(store, { reason, actor });
      if (typeof released === 'string') refused.push({ index, why: released });
      else state = released;
    }
  }
  for (const { why } of refused)
    log.warn('a command to a tenant’s control is not applied', { tenantId: store.scope.tenantId, why });
  const notes = standing.some(({ hard }) => hard) ? [HARD] : [];
  return { ...state, ...(notes.length > 0 && { notes }), ...(refused.length > 0 && { refused }) };
}

/** Why a command must not be applied here; `undefined` for nearly all. */
function objection({ op, scope: { id }, unclear }: ControlCommand, tenantId: string): string | undefined {
  if (unclear !== undefined) return unclear;
  if (id === undefined || id === tenantId) return undefined;
  return `this is the control of ${tenantId}, and the ${op} names ${id}: send it to the control of that tenant`;
}

async function kill(store: TenantStore, words: { reason: string; actor: string }): Promise<ControlState> {
  const killed = await store.kill(words).catch(async (error: unknown) => {
    if (isStorageBusy(error)) throw error;
    log.error('a kill is applied without its words, with which the database refuses it', {
      tenantId: store.scope.tenantId,
      error: String(error),
    });
    return await store.kill(WORDLESS);
  });
  await revoke(store);
  return killed;
}

/** The state, or why the tenant is not released and will not be by asking again. */
async function release(
  store: TenantStore,
  words: { reason: string; actor: string },
): Promise<ControlState | string> {
  try {
    return await store.release(words);
  } catch (error) {
    if (isStorageBusy(error)) throw error;
    log.error('a release is refused by the database', {
      tenantId: store.scope.tenantId,
      error: String(error),
    });
    return 'the database refuses this release: see the log of the control host, and ask again';
  }
}

/**
 * Notes what is lent as revoked. The fence stands without it: no call goes out under an older epoch, and hosts end what they have lent by
 * the epoch alone. So where it fails, the kill goes on to contain and drain.
 */
async function revoke(store: TenantStore): Promise<void> {
  try {
    await store.revokeLeases();
  } catch (error) {
    const { tenantId } = store.scope;
    log.warn('the leases of a killed tenant are not noted as revoked; none can be used', {
      tenantId,
      error: String(error),
    });
  }
}
