import path from 'node:path';
import { migrate, roleUrl } from '../storage/migrate';
import type { BringUpOptions } from './bring-up';
import { keepPostgres, type KeptPostgres } from './embedded/kept-postgres';
import { readPassword, type KeyFiles } from './keys';
import { timed } from './timed';

/** Where the database is, for the two roles that processes have. */
export interface BroughtDatabase {
  readonly app: string;
  readonly operator: string;
  /** The embedded one; `undefined` where another is configured. To be stopped by the caller. */
  readonly server: KeptPostgres | undefined;
}

/**
 * Starts the embedded PostgreSQL and keeps it running, or takes the configured one, and migrates what may be migrated.
 * Throws where it cannot be reached or migrated; then nothing of ours is left running.
 */
export async function bringDatabase(
  { config, step, say }: BringUpOptions,
  files: KeyFiles,
): Promise<BroughtDatabase> {
  let adminUrl = config.database.admin?.reveal();
  if (adminUrl === undefined && config.database.app && config.database.operator) {
    // Somebody else migrates; the workers refuse a schema that is not theirs.
    step('PostgreSQL', 'configured, not migrated by this start', 0);
    return {
      app: config.database.app.reveal(),
      operator: config.database.operator.reveal(),
      server: undefined,
    };
  }
  const passwords = {
    app: passwordOf(config.database.app?.reveal()) ?? readPassword(files.appPassword),
    operator: passwordOf(config.database.operator?.reveal()) ?? readPassword(files.operatorPassword),
  };
  let server: KeptPostgres | undefined;
  if (adminUrl === undefined) {
    const dataDir = path.join(config.stateDir, 'postgres');
    const started = await timed(() => keepPostgres({ dataDir, say }));
    server = started.value;
    adminUrl = server.adminUrl;
    step('PostgreSQL', `127.0.0.1:${server.port}`, started.ms);
  } else {
    step('PostgreSQL', `${new URL(adminUrl).host} (configured)`, 0);
  }
  const url = adminUrl;
  const migrated = await timed(() => migrate(url, { passwords })).catch(async (error: unknown) => {
    await server?.stop();
    throw error;
  });
  step('schema', `version ${migrated.value.version}, ${migrated.value.applied} applied now`, migrated.ms);
  return {
    app: config.database.app?.reveal() ?? roleUrl(url, 'app', passwords.app),
    operator: config.database.operator?.reveal() ?? roleUrl(url, 'operator', passwords.operator),
    server,
  };
}

const passwordOf = (url: string | undefined): string | undefined =>
  url === undefined ? undefined : decodeURIComponent(new URL(url).password) || undefined;
