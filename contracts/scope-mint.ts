import type { Environment, TenantId } from './ids';
import type { TenantScope } from './scope';

/** Makes a {@link TenantScope}. Importable by verifiers alone: see the rule `scope-is-minted-by-verifiers`. */
export function mintScope(
  tenantId: TenantId,
  environment: Environment,
  source: TenantScope['source'],
): TenantScope {
  return Object.freeze({ tenantId, environment, source }) as unknown as TenantScope;
}
