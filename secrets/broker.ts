import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import type { Environment, TenantId } from '../contracts/ids';
import type { CredentialLease, Leasing, SecretBroker } from '../contracts/ports';
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

/** What `record_lease` says once the tenant is fenced beyond the call's epoch. */
const FENCED = 'BH003';

/**
 * Lends a tenant's credential to one call (promise S1). The secret exists in clear only inside a lease, which gives it
 * as a header value at the moment of sending; nothing that prints, serializes or throws shows it (promise S2).
 * What the database cannot answer is thrown (`StorageBusy`), never read as permission.
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
    async lease({ store, runId, path, capability, epoch, ttlMs }): Promise<Leasing> {
      const { tenantId, environment } = store.scope;
      const sealed = await store.credential(capability);
      if (!sealed) return refused(capability, 'this tenant has none: put one');
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
      const lease = new Lease(secret, capability, epoch, ttlMs);
      keep(`${tenantId}/${environment}`, lease);
      try {
        const expiresAt = new Date(Date.now() + ttlMs).toISOString();
        await store.recordLease({ leaseId: lease.leaseId, capability, runId, path, epoch, expiresAt });
      } catch (error) {
        lease.end('was never recorded');
        if ((error as { code?: unknown }).code === FENCED) return fenced(capability);
        throw error;
      }
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
  readonly leaseId = randomUUID();
  onEnd: () => void = () => undefined;
  readonly #secret: Buffer;
  readonly #timer: NodeJS.Timeout;
  /** On the monotonic clock: a step of the wall clock neither shortens nor stretches a lease. */
  readonly #until: number;
  #over: string | undefined;

  constructor(
    secret: Buffer,
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

function fenced(capability: string): Leasing {
  const refusal: Refusal = {
    kind: 'killed',
    origin: 'control',
    rule: 'fence',
    rules: ['fence'],
    message: `the tenant was stopped before ${capability} was lent`,
  };
  return { kind: 'refused', refusal };
}
