import type { Pool } from 'pg';

/** How often the ledger row of a tenant was written while `body` ran. Counted by a trigger of the superuser's. */
export async function touches(admin: Pool, tenantId: string, body: () => Promise<unknown>): Promise<number> {
  const trace = `touched_${tenantId.replaceAll('-', '_')}`;
  await admin.query(`
    create table public.${trace} (n serial);
    grant all on public.${trace}, public.${trace}_n_seq to public;
    create function public.${trace}() returns trigger language plpgsql as $$
      begin insert into public.${trace} default values; return null; end $$;
    create trigger ${trace} after update on bulkhead.ledgers for each row when (new.tenant_id = '${tenantId}')
      execute function public.${trace}()`);
  try {
    await body();
    const found = await admin.query<{ n: number }>(`select count(*)::int as n from public.${trace}`);
    return found.rows[0]?.n ?? -1;
  } finally {
    await admin.query(
      `drop trigger ${trace} on bulkhead.ledgers; drop function public.${trace}(); drop table public.${trace}`,
    );
  }
}
