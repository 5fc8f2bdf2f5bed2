import type { Environment, TenantId } from './ids';

declare const verified: unique symbol;

/**
 * Proof that somebody verified which tenant and environment this work is for: the only key to tenant-scoped
 * storage. It can be made by `mintScope` alone, and only the verifiers may import that (a dependency rule).
 */
export interface TenantScope {
  readonly tenantId: TenantId;
  readonly environment: Environment;
  /** What vouches for it: a signed envelope, a bearer token, Temporal's own word for a control workflow, an operator. */
  readonly source: 'envelope' | 'token' | 'control' | 'operator';
  readonly [verified]: true;
}
