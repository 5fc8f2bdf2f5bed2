import { inspect } from 'node:util';
import type { Environment, TenantId } from '../contracts/ids';
import type { CredentialLease, Leasing, SecretBroker } from '../contracts/secrets-ports';
import type { Refusal } from '../contracts/refusal';
import { openCredential, type MasterKey } from './seal';

/** Thrown when a lease is used after its end or its revocation. Retrying cannot revive it: the call asks for another. */
export class LeaseOver extends Error {
  override readonly name = 'LeaseOver';
}

export interface Broker extends SecretBroker {
  /**
   * Ends the leases of a tenant that were given before a fence, at once: for the host's poll of control versions.
   * Answers how many.
   */
  revokeBefore(tenantId: TenantId, environment: Environment, epoch: number): number;
  /** Ends every lease. */
  close(): void;
}

/**
 * Lends a tenant's credential to one call (promise S1). Permission and record are the admission's, under the lock of
 * every fence; the broker opens what was lent, in memory. The secret exists in clear only inside a lease, which gives it
 * as a header value at the moment of sending; nothing that prints, serializes or throws shows it (promise S2).
 *
 * @param masterKeys those that data keys may be wrapped by, the current one first.
 */
export function createBroker(masterKeys: readonly MasterKey[]): Broker {
  const out = new Map<string, Set<Lease>>();

  const keep = (tenant: string, lease: Lease): void => {
    const leases = out.get(tenant) ?? new Set<Lease>();
    out.set(tenant, leases.add(lease));
    lease.onEnd = () => {
      leases.delete(lease);
      if (leases.size === 0 && out.get(tenant) === leases) out.delete(tenant);
    };
  };

  return {
    lease({ scope, capability, sealed, admission, ttlMs }): Leasing {
      const { tenantId, environment } = scope;
      if (sealed?.capability !== capability) return refused(capability, 'this tenant has none: put one');
      if (admission.leaseId === null) return unrecorded(capability);
      let secret: Buffer;
      try {
        secret = openCredential(masterKeys, { tenantId, environment }, sealed);
      } catch {
        // The reason is the operator's to find, from key ids; a call learns only that there is none.
        return refused(
          capability,
          'it does not open with this host’s master keys: check BULKHEAD_MASTER_KEY, or put it again',
        );
      }
      const lease = new Lease(secret, admission.leaseId, capability, admission.epoch, ttlMs);
      keep(`${tenantId}/${environment}`, lease);
      return { kind: 'leased', lease };
    },

    revokeBefore(tenantId, environment, epoch) {
      const leases = [...(out.get(`${tenantId}/${environment}`) ?? [])].filter(
        (lease) => lease.epoch < epoch,
      );
      for (const lease of leases) lease.end('was revoked');
      return leases.length;
    },

    close() {
      for (const leases of [...out.values()])
        for (const lease of [...leases]) lease.end('was revoked: the host stops');
    },
  };
}

class Lease implements CredentialLease {
  onEnd: () => void = () => undefined;
  readonly #secret: Buffer;
  readonly #timer: NodeJS.Timeout;
  /** On the monotonic clock: a step of the wall clock neither shortens nor stretches a lease. */
  readonly #until: number;
  #over: string | undefined;

  constructor(
    secret: Buffer,
    readonly leaseId: string,
    readonly capability: string,
    readonly epoch: number,
    ttlMs: number,
  ) {
    this.#secret = secret;
    this.#until = performance.now() + ttlMs;
    this.#timer = setTimeout(() => this.end('is over'), ttlMs);
    this.#timer.unref();
  }

  authorization(): string {
    if (this.#over === undefined && performance.now() >= this.#until) this.end('is over');
    if (this.#over !== undefined) throw new LeaseOver(`the lease of ${this.capability} ${this.#over}`);
    return `Bearer ${this.#secret.toString('utf8')}`;
  }

  end(why: string): void {
    if (this.#over !== undefined) return;
    this.#over = why;
    this.#secret.fill(0);
    clearTimeout(this.#timer);
    this.onEnd();
  }

  toJSON(): object {
    return { leaseId: this.leaseId, capability: this.capability, over: this.#over !== undefined };
  }

  [inspect.custom](): object {
    return this.toJSON();
  }
}

function refused(capability: string, why: string): Leasing {
  const refusal: Refusal = {
    kind: 'failed',
    origin: 'platform',
    rule: 'credential_unavailable',
    rules: ['credential_unavailable'],
    message: `no usable credential for ${capability}: ${why}`,
  };
  return { kind: 'refused', refusal };
}

function unrecorded(capability: string): Leasing {
  const refusal: Refusal = {
    kind: 'killed',
    origin: 'control',
    rule: 'lease_revoked',
    rules: ['lease_revoked'],
    message: `the ledger has no lease of ${capability} on record for this call, or has revoked it`,
  };
  return { kind: 'refused', refusal };
}
