import { readFileSync } from 'node:fs';
import path from 'node:path';
import { app } from '../../examples/support-desk/app';
import { tenantDocuments, TENANTS, type Tenant } from '../../examples/support-desk/data';
import { documentValues } from '../../examples/support-desk/example';
import { formatMistakes, parseDocuments } from '../../policy/documents';
import { parseCases, type PolicyCase } from '../../policy/cases';
import type { PolicyProfile } from '../../policy/profile';

export { app, TENANTS, type Tenant };

/** The tenant's profile as the example publishes it. */
export function exampleProfile(tenant: Tenant): { text: string; document: PolicyProfile } {
  const parsed = parseDocuments(tenantDocuments(tenant, documentValues({}, 'prod')));
  if (!parsed.ok) throw new Error(formatMistakes(parsed.mistakes, `${tenant}.yaml`));
  const profile = parsed.documents.find((one) => one.kind === 'PolicyProfile');
  if (!profile) throw new Error(`${tenant}.yaml has no profile`);
  return profile;
}

export const caseFile = (tenant: Tenant): string =>
  path.join(__dirname, `../../examples/support-desk/tenants/${tenant}.cases.yaml`);

/** The tenant's own cases, or fails with what is wrong in them. */
export function exampleCases(tenant: Tenant): PolicyCase[] {
  const { document } = exampleProfile(tenant);
  const ground = { ...app, profile: document.metadata.name, environments: document.environments };
  const parsed = parseCases(readFileSync(caseFile(tenant), 'utf8'), ground);
  if (!parsed.ok) throw new Error(formatMistakes(parsed.mistakes, `${tenant}.cases.yaml`));
  return parsed.cases;
}
