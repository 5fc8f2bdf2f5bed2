/** What a tenant's ledger counts in bytes, beside what lies in the tables. */
export interface Bytes {
  readonly counted: { stored: number; reserved: number; memory: number };
  readonly found: { stored: number; reserved: number; memory: number };
}

/** As the superuser sees both, at one moment. `ask` answers the rows of a statement. */
export async function bytesOf(
  ask: (sql: string) => Promise<readonly object[]>,
  tenantId: string,
): Promise<Bytes> {
  const [row] = await ask(
    `select json_build_object('stored', stored_bytes, 'reserved', stored_reserved, 'memory', memory_bytes) as counted,
       json_build_object(
         'stored', (select coalesce(sum(octet_length(payload::text)), 0) from bulkhead.payloads k
           where (k.tenant_id, k.environment) = (t.tenant_id, t.environment)),
         'reserved', (select coalesce(sum(stored_reserved), 0) from bulkhead.calls c
           where (c.tenant_id, c.environment) = (t.tenant_id, t.environment) and state = 'claimed'),
         'memory', (select coalesce(sum(octet_length(title) + octet_length(body)), 0) from bulkhead.knowledge d
           where (d.tenant_id, d.environment) = (t.tenant_id, t.environment))) as found
       from bulkhead.ledgers t where tenant_id = '${tenantId}'`,
  );
  if (!row) throw new Error(`no ledger of ${tenantId}`);
  return row as Bytes;
}
