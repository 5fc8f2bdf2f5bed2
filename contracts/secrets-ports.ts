import type { SignedEnvelope } from './envelope';
import type { Refusal } from './refusal';
import type { SealedCredential } from './rows';
import type { TenantScope } from './scope';

/** Ports of credentials and envelopes. */

/** A credential lent to one call: read at the moment of sending, useless after the lease. */
export interface CredentialLease {
  readonly leaseId: string;
  /** Throws once the lease is over or revoked. */
  authorization(): string;
}

export type Leasing =
  | { readonly kind: 'leased'; readonly lease: CredentialLease }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** Takes a tenant's credential out for one call (promise S1). */
export interface SecretBroker {
  /**
   * Opens what the admission has lent, in memory: the ledger has the lease on record already. Refuses where there is no
   * credential, it does not open, or the admission recorded no lease of it.
   *
   * @param request.ttlMs how long from now, at most until the recorded end.
   */
  lease(request: {
    scope: TenantScope;
    capability: string;
    sealed: SealedCredential | null;
    admission: { readonly leaseId: string | null; readonly epoch: number };
    ttlMs: number;
  }): Leasing;
}

/** Verifies what travels in the header (promise E2); throws `ApplicationFailure` types of `failures.ts` via its caller. */
export interface EnvelopeVerifier {
  /** Resolves the scope that the envelope proves, for exactly this workflow id; rejects with a reason otherwise. */
  verify(signed: unknown, workflowId: string): Promise<{ scope: TenantScope; signed: SignedEnvelope }>;
}

export interface EnvelopeSigner {
  sign(envelope: SignedEnvelope['envelope']): Promise<SignedEnvelope>;
}
