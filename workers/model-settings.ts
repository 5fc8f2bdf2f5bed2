import { TenantId } from '../contracts/ids';
import { Secret } from './secret-value';
import { PER_TENANT, SETTINGS } from './settings';

/** A model provider that the operator named. */
export interface ModelSettings {
  readonly baseUrl: string;
  readonly apiKey: Secret<string>;
  readonly name: string;
}

const MODEL_FIELDS = {
  BULKHEAD_MODEL_BASE_URL: 'baseUrl',
  BULKHEAD_MODEL_API_KEY: 'apiKey',
  BULKHEAD_MODEL_MODEL: 'name',
} as const;
type ModelFields = Partial<Record<'baseUrl' | 'apiKey' | 'name', string>>;

/**
 * The provider of each tenant: its own settings over the common ones. Adds to `problems` where a base URL lacks its
 * model or a variable its tenant.
 */
export function modelsOf(
  set: Readonly<Partial<Record<(typeof PER_TENANT)[number], string | undefined>>>,
  present: Readonly<Record<string, string | undefined>>,
  problems: string[],
): (tenant: string) => ModelSettings | undefined {
  const common: ModelFields = {};
  const perTenant = new Map<string, ModelFields>();
  for (const name of PER_TENANT) {
    const value = set[name];
    if (value !== undefined) common[MODEL_FIELDS[name]] = value;
    for (const [variable, own] of Object.entries(present)) {
      if (own === undefined || !variable.startsWith(`${name}__`)) continue;
      const tenant = tenantOfSuffix(variable.slice(name.length + 2));
      const parsed = SETTINGS[name].safeParse(own);
      if (!tenant) problems.push(`${variable}: after __ stands a tenant’s id in capitals, - written as _`);
      else if (!parsed.success)
        problems.push(`${variable}: ${parsed.error.issues[0]?.message ?? 'is malformed'}`);
      else perTenant.set(tenant, { ...perTenant.get(tenant), [MODEL_FIELDS[name]]: own });
    }
  }
  const complete = (fields: ModelFields): ModelSettings | undefined =>
    fields.baseUrl && fields.name
      ? { baseUrl: fields.baseUrl, name: fields.name, apiKey: new Secret(fields.apiKey ?? '') }
      : undefined;
  if (Object.keys(common).length > 0 && !complete(common)) {
    problems.push('BULKHEAD_MODEL_BASE_URL: set it together with BULKHEAD_MODEL_MODEL, or neither');
  }
  for (const [tenant, fields] of perTenant) {
    if (!complete({ ...common, ...fields }))
      problems.push(`the model of tenant ${tenant}: set both its base URL and its model`);
  }
  return (tenant) => complete({ ...common, ...perTenant.get(tenant) });
}

const tenantOfSuffix = (suffix: string): string | undefined =>
  /^[A-Z0-9_]+$/.test(suffix)
    ? TenantId.safeParse(suffix.toLowerCase().replaceAll('_', '-')).data
    : undefined;
