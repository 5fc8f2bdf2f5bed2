import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';

/**
 * The database roles, cluster-wide: see docs/storage.md. Owners cannot log in; who logs in owns nothing and bypasses
 * nothing.
 */
export const ROLES = {
  owner: 'bulkhead_owner',
  sweep: 'bulkhead_sweep',
  search: 'bulkhead_search',
  app: 'bulkhead_app',
  operator: 'bulkhead_operator',
} as const;

/** Passwords of the roles that log in. A role left out keeps the one it has, and cannot log in if it has none. */
export interface RolePasswords {
  readonly app?: string;
  readonly operator?: string;
}

const NARROW = 'NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS';

/**
 * Makes the roles and brings their attributes back to what they must be. Roles belong to the cluster, where no lock
 * of one database reaches: two migrations of two databases may do this at once, so whoever loses the race repeats it.
 */
export async function ensureRoles(admin: Client, passwords: RolePasswords): Promise<void> {
  const statements = [
    ...[ROLES.owner, ROLES.sweep, ROLES.search].map((role) => ({ role, attributes: `NOLOGIN ${NARROW}` })),
    ...[ROLES.app, ROLES.operator].map((role) => ({ role, attributes: `LOGIN ${NARROW}` })),
  ];
  await retryRaces(async () => {
    for (const { role, attributes } of statements) {
      const found = await admin.query('select 1 from pg_roles where rolname = $1', [role]);
      if (found.rowCount === 0) await admin.query(`create role ${role} ${attributes}`);
      else if (await differs(admin, role, attributes.startsWith('LOGIN')))
        await admin.query(`alter role ${role} ${attributes}`);
    }
    // To make objects of these roles, the migrating role must be able to become them; the owner must be able to hand a
    // function to the sweep. It inherits nothing from it: a policy for the sweep must not open rows to the owner.
    const me = await admin.query<{ name: string; super: boolean }>(
      'select rolname as name, rolsuper as super from pg_roles where rolname = current_user',
    );
    const name = me.rows[0]?.name;
    if (!me.rows[0]?.super && name) {
      await admin.query(
        `grant ${ROLES.owner}, ${ROLES.sweep}, ${ROLES.search} to ${admin.escapeIdentifier(name)}`,
      );
    }
    for (const role of [ROLES.sweep, ROLES.search]) {
      if (!(await maySet(admin, role)))
        await admin.query(`grant ${role} to ${ROLES.owner} with inherit false, set true`);
    }
  });
  await retryRaces(async () => {
    if (passwords.app) await setPassword(admin, ROLES.app, passwords.app);
    if (passwords.operator) await setPassword(admin, ROLES.operator, passwords.operator);
  });
}

/** The address of a database for one of our roles. */
export function roleUrl(
  adminUrl: string,
  role: 'app' | 'operator',
  password: string,
  database?: string,
): string {
  const url = new URL(adminUrl);
  url.username = ROLES[role];
  url.password = encodeURIComponent(password);
  if (database !== undefined) url.pathname = `/${encodeURIComponent(database)}`;
  return url.href;
}

async function differs(admin: Client, role: string, login: boolean): Promise<boolean> {
  const { rows } = await admin.query<{ wrong: boolean }>(
    `select rolcanlogin <> $2 or rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls as wrong
       from pg_roles where rolname = $1`,
    [role, login],
  );
  return rows[0]?.wrong ?? true;
}

async function maySet(admin: Client, role: string): Promise<boolean> {
  const { rowCount } = await admin.query(
    `select 1 from pg_auth_members where roleid = to_regrole($1) and member = to_regrole($2) and set_option and not inherit_option`,
    [role, ROLES.owner],
  );
  return rowCount !== 0;
}

/** Sent as a verifier (RFC 5803), so that the password itself is in no statement and no server log. */
async function setPassword(admin: Client, role: string, password: string): Promise<void> {
  const salt = randomBytes(16);
  const iterations = 4_096;
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest();
  const stored = createHash('sha256').update(hmac('Client Key')).digest('base64');
  const verifier = `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${stored}:${hmac('Server Key').toString('base64')}`;
  await admin.query(`alter role ${role} password ${admin.escapeLiteral(verifier)}`);
}

async function retryRaces(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await work();
      return;
    } catch (error) {
      const { code, message } = error as { code?: string; message?: string };
      // duplicate role, its unique index, "tuple concurrently updated"
      const race =
        code === '42710' || code === '23505' || (code === 'XX000' && /concurrently/.test(message ?? ''));
      if (!race || attempt === 20) throw error;
      await sleep(20 * attempt);
    }
  }
}
