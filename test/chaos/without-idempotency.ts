import { randomUUID } from 'node:crypto';
import type { Admission, Claim, Settlement } from '../../contracts/ledger';
import type { TenantStore } from '../../contracts/ports';
import type { WorkerParts } from '../../workers/parts';

/**
 * The control arm: a ledger that keeps its books and forgets what they are for. Whatever was claimed or finished before,
 * the next attempt of a call is let in as a new one. Together with systems that honour no key, this is a platform
 * without idempotency; a harness that finds nothing wrong with it finds nothing.
 */
export function compose(parts: WorkerParts): WorkerParts {
  const { storage } = parts;
  const forgetful = new WeakMap<TenantStore, TenantStore>();
  return {
    ...parts,
    storage: {
      ...storage,
      platform: storage.platform,
      tenant(scope) {
        const store = storage.tenant(scope);
        const known = forgetful.get(store) ?? forget(store);
        forgetful.set(store, known);
        return known;
      },
    },
  };
}

function forget(store: TenantStore): TenantStore {
  /** Let in here and not by the ledger: what they settle it need not know. */
  const letIn = new Set<string>();
  return {
    ...store,
    async admit(request): Promise<Admission> {
      const answer = await store.admit(request);
      const writes = request.callClass === 'write' || request.callClass === 'high_risk_write';
      if (!writes) return answer;
      if (answer.answer === 'recover') {
        const { epoch, attempt, leaseId, seq } = answer;
        return { answer: 'admitted', epoch, attempt, leaseId, seq };
      }
      if (answer.answer === 'replayed') {
        letIn.add(request.token);
        const claim: Claim = { epoch: 0, attempt: 1, leaseId: randomUUID(), seq: answer.seq };
        return { answer: 'admitted', ...claim };
      }
      return answer;
    },
    async settle(request): Promise<Settlement> {
      if (letIn.has(request.token)) return { answer: 'settled', reviewNo: null, seq: 0 };
      return await store.settle(request);
    },
  };
}
