import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

export const TENANTS = ['acme', 'globex', 'initech'] as const;
export type Tenant = (typeof TENANTS)[number];

/** The workspace that each tenant's support works in. */
export const WORKSPACES: Readonly<Record<Tenant, string>> = {
  acme: 'support',
  globex: 'care',
  initech: 'desk',
};

/** A change that a ticket is meant to cause, as the effect log of its system would show it; other fields must match the request. */
export const ExpectedEffect = z.looseObject({
  system: z.enum(['helpdesk', 'crm', 'payments', 'mail']),
  operation: z.string(),
  /** Absent where the record is made by the change (a mail). */
  recordId: z.string().optional(),
});
export type ExpectedEffect = z.infer<typeof ExpectedEffect>;

/** What a ticket must and must not cause. */
export const Expectation = z.strictObject({
  stopReason: z.enum(['completed', 'approval_denied']),
  effects: z.array(ExpectedEffect),
  refusals: z.array(z.strictObject({ action: z.string(), rule: z.string() })),
  /** Actions whose calls are kept as suggestions. */
  suggested: z.array(z.string()).default([]),
});
export type Expectation = z.infer<typeof Expectation>;

const Owned = z.looseObject({ id: z.string(), account: z.string() });

export const TicketCase = z.strictObject({
  /** As the customer wrote it and the helpdesk keeps it. */
  record: Owned.extend({ subject: z.string(), text: z.string() }),
  /** Whether its text poses as orders to the agent. */
  hostile: z.boolean(),
  expect: Expectation,
});
export type TicketCase = z.infer<typeof TicketCase>;

const Knowledge = z.strictObject({ documentId: z.string(), title: z.string(), text: z.string() });

/** What a tenant brings: customers, payments, tickets, knowledge. */
export interface TenantData {
  readonly tickets: TicketCase[];
  readonly customers: z.infer<typeof Owned>[];
  readonly payments: z.infer<typeof Owned>[];
  readonly knowledge: z.infer<typeof Knowledge>[];
}

export function tenantData(tenant: Tenant): TenantData {
  const read = <T>(name: string, form: z.ZodType<T>): T =>
    form.parse(JSON.parse(readFileSync(exampleFile('data', tenant, `${name}.json`), 'utf8')));
  return {
    tickets: read('tickets', z.array(TicketCase)),
    customers: read('customers', z.array(Owned)),
    payments: read('payments', z.array(Owned)),
    knowledge: read('knowledge', z.array(Knowledge)),
  };
}

/**
 * The QuotaClass, PolicyProfile and Tenant documents of a tenant, in the order in which they refer to each other, with
 * each `${NAME}` filled in. Throws on a name without a value.
 */
export function tenantDocuments(tenant: Tenant, values: Readonly<Record<string, string>>): string {
  const text = readFileSync(exampleFile('tenants', `${tenant}.yaml`), 'utf8');
  return text.replace(/\$\{([A-Z_]+)\}/g, (_all, name: string) => {
    const value = values[name];
    if (value === undefined)
      throw new Error(`tenants/${tenant}.yaml asks for \${${name}}, which nothing fills in`);
    // Every place is inside single quotes.
    return value.replaceAll("'", "''");
  });
}

/**
 * The tenant's QuotaClass as its documents have it, or with other limits: a YAML flow mapping in place of its own. Throws where
 * the document has no such line.
 */
export function quotaClassText(tenant: Tenant, limits?: string): string {
  const text = readFileSync(exampleFile('tenants', `${tenant}.yaml`), 'utf8').split(/^---$/m)[0] ?? '';
  const own = /^limits: .*$/m;
  if (!/^kind: QuotaClass$/m.test(text) || !own.test(text))
    throw new Error(
      `tenants/${tenant}.yaml does not begin with a QuotaClass that has its limits in one line`,
    );
  return limits === undefined ? text : text.replace(own, `limits: ${limits}`);
}

/** A file of this example in the sources: compiled code runs elsewhere, and data is not compiled. */
function exampleFile(...parts: string[]): string {
  for (let folder = __dirname; ; folder = path.dirname(folder)) {
    const file = path.join(folder, 'examples', 'support-desk', ...parts);
    if (existsSync(file) && existsSync(path.join(folder, 'package.json'))) return file;
    if (folder === path.dirname(folder))
      throw new Error(`${parts.join('/')} of the support desk is missing; run from a whole checkout`);
  }
}
