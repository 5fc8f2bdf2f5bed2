import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { TENANTS, tenantData, type Tenant } from './data';
import { EffectRow, Put, type Stored } from './systems/store';
import { tokenDigest, type TokenFile } from './systems/tokens';

/** The systems outside, each a process of its own. */
export const SYSTEMS = ['helpdesk', 'crm', 'payments', 'mail'] as const;
export type SystemId = (typeof SYSTEMS)[number];
type ProcessId = SystemId | 'models';

/** The capabilities that a tenant has credentials for, and what each token may do where. */
const CAPABILITIES: Readonly<Record<string, { readonly system: ProcessId; readonly may: string }>> = {
  'helpdesk:read': { system: 'helpdesk', may: 'read' },
  'helpdesk:write': { system: 'helpdesk', may: 'write' },
  'crm:read': { system: 'crm', may: 'read' },
  'crm:write': { system: 'crm', may: 'write' },
  'payments:read': { system: 'payments', may: 'read' },
  'payments:refund': { system: 'payments', may: 'refund' },
  'mail:send': { system: 'mail', may: 'send' },
  'openai:generate': { system: 'models', may: 'generate' },
};

const Credentials = z.strictObject({
  /** By tenant, then capability. */
  tenants: z.record(z.string(), z.record(z.string(), z.string())),
  /** By system: what customers write tickets and pay with. */
  intake: z.record(z.string(), z.string()),
});
type Credentials = z.infer<typeof Credentials>;

export interface WorldOptions {
  readonly stateDir: string;
  spawn(name: string, modulePath: string, env: Record<string, string>): Promise<{ pid: number; url: string }>;
  /** Whether the scripted model is needed. */
  readonly scriptedModel: boolean;
  /** For tests: opens the fault switches. */
  readonly faults?: boolean;
  /** For tests: tokens reach every account's records. */
  readonly overbroad?: boolean;
}

/** The world outside as it runs. */
export interface World {
  readonly urls: Readonly<Partial<Record<ProcessId, string>>>;
  /** Process ids, for whoever wants to end one. */
  readonly pids: Readonly<Partial<Record<ProcessId, number>>>;
  /** Credentials of a tenant, by capability. */
  credentials(tenant: Tenant): Readonly<Record<string, string>>;
}

const moduleOf = (id: ProcessId): string =>
  `${path.join(__dirname, ...(id === 'models' ? ['model', 'server'] : ['systems', id]))}${path.extname(__filename)}`;

/** Starts one system on the state that it had, at the address that it had. */
export async function startSystem(
  options: Omit<WorldOptions, 'scriptedModel'>,
  id: ProcessId,
): Promise<{ pid: number; url: string }> {
  const state = stateOf(options.stateDir, id);
  mkdirSync(state, { recursive: true });
  const tokens = path.join(state, 'tokens.json');
  writeWhole(tokens, JSON.stringify(tokenFileOf(credentialsOf(options.stateDir), id)));
  return options.spawn(id, moduleOf(id), {
    SYSTEM_STATE: state,
    SYSTEM_TOKENS: tokens,
    SYSTEM_FAULTS: options.faults ? '1' : '0',
    SYSTEM_OVERBROAD: options.overbroad ? '1' : '0',
  });
}

/** Brings up the systems outside, with the tickets, customers and payments in them. The same state, the same world. */
export async function startWorld(options: WorldOptions): Promise<World> {
  const credentials = credentialsOf(options.stateDir);
  const ids: ProcessId[] = [...SYSTEMS, ...(options.scriptedModel ? ['models' as const] : [])];
  const started = await Promise.all(ids.map(async (id) => [id, await startSystem(options, id)] as const));
  const world: World = {
    urls: Object.fromEntries(started.map(([id, { url }]) => [id, url])),
    pids: Object.fromEntries(started.map(([id, { pid }]) => [id, pid])),
    credentials: (tenant) => credentials.tenants[tenant] ?? {},
  };
  writeWhole(path.join(options.stateDir, 'world.json'), JSON.stringify(world.urls));
  for (const tenant of TENANTS) {
    const { tickets, customers, payments } = tenantData(tenant);
    const replyMode = tenant === 'acme' ? 'draft' : 'direct';
    await bringIn(options.stateDir, 'helpdesk', [
      { collection: 'accounts', record: { id: `${tenant}-1`, account: `${tenant}-1`, replyMode } },
      ...tickets.map(({ record }) => ({ collection: 'tickets', record })),
    ]);
    await bringIn(
      options.stateDir,
      'crm',
      customers.map((record) => ({ collection: 'customers', record })),
    );
    await bringIn(
      options.stateDir,
      'payments',
      payments.map((record) => ({ collection: 'payments', record })),
    );
  }
  return world;
}

/** What customers do: write a ticket, pay. Records that are there already stay as they are. */
export async function bringIn(stateDir: string, system: SystemId, puts: readonly Put[]): Promise<void> {
  const urls = z
    .record(z.string(), z.string())
    .parse(JSON.parse(readFileSync(path.join(stateDir, 'world.json'), 'utf8')));
  const response = await fetch(`${urls[system]}/intake`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${credentialsOf(stateDir).intake[system]}`,
    },
    body: JSON.stringify({ puts }),
  });
  if (!response.ok)
    throw new Error(`${system} took no records in: ${response.status} ${await response.text()}`);
}

/** Everything that ever happened in the systems outside, by their own logs. */
export function effectsOutside(stateDir: string): EffectRow[] {
  return SYSTEMS.flatMap((system) => effectsOf(stateDir, system));
}

/** The systems' logs of effects, whether they exist yet or not. */
export const effectFiles = (stateDir: string): string[] =>
  SYSTEMS.map((system) => effectFile(stateDir, system));

const effectFile = (stateDir: string, system: SystemId): string =>
  path.join(stateOf(stateDir, system), 'effects.jsonl');
const effectsOf = (stateDir: string, system: SystemId): EffectRow[] =>
  linesOf(effectFile(stateDir, system)).map((line) => EffectRow.parse(JSON.parse(line)));

/**
 * Every record as the systems keep it now, by `system/collection/id`: what customers brought, and each change upon it, by
 * the systems' own logs.
 */
export function recordsOutside(stateDir: string): Map<string, Stored> {
  const records = new Map<string, Stored>();
  for (const system of SYSTEMS) {
    const put = ({ collection, record }: Put): void =>
      void records.set(`${system}/${collection}/${record.id}`, record);
    for (const line of linesOf(path.join(stateOf(stateDir, system), 'records.jsonl')))
      put(Put.parse(JSON.parse(line)));
    for (const { puts } of effectsOf(stateDir, system)) puts.forEach(put);
  }
  return records;
}

/** What the scripted model was shown, by account; empty where a real provider answers. */
export function promptsSeen(stateDir: string): { account: string; text: string }[] {
  const Row = z.looseObject({ account: z.string() });
  return linesOf(path.join(stateOf(stateDir, 'models'), 'prompts.jsonl')).map((text) => ({
    account: Row.parse(JSON.parse(text)).account,
    text,
  }));
}

/** Every secret value there is in this world, to search for where none may be. */
export function secretsOf(stateDir: string): string[] {
  const { tenants, intake } = credentialsOf(stateDir);
  return [
    ...Object.values(tenants).flatMap((byCapability) => Object.values(byCapability)),
    ...Object.values(intake),
  ];
}

const stateOf = (stateDir: string, id: ProcessId): string => path.join(stateDir, 'systems', id);

/** Whole lines only: the last one may be in the making. */
function linesOf(file: string): string[] {
  if (!existsSync(file)) return [];
  const text = readFileSync(file, 'utf8');
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean);
}

/** Made once per state folder, random; a later start finds the same. */
function credentialsOf(stateDir: string): Credentials {
  const file = path.join(stateDir, 'credentials.json');
  if (existsSync(file)) return Credentials.parse(JSON.parse(readFileSync(file, 'utf8')));
  const secret = (what: string): string =>
    `${what.replace(/[^a-z]/g, '-')}-${randomBytes(24).toString('base64url')}`;
  const made: Credentials = {
    tenants: Object.fromEntries(
      TENANTS.map((tenant) => [
        tenant,
        Object.fromEntries(Object.keys(CAPABILITIES).map((name) => [name, secret(name)])),
      ]),
    ),
    intake: Object.fromEntries(SYSTEMS.map((system) => [system, secret('intake')])),
  };
  mkdirSync(stateDir, { recursive: true });
  writeWhole(file, JSON.stringify(made, null, 2));
  return made;
}

function tokenFileOf(credentials: Credentials, id: ProcessId): TokenFile {
  const tokens = Object.entries(credentials.tenants).flatMap(([tenant, byCapability]) =>
    Object.entries(byCapability).flatMap(([name, secret]) => {
      const capability = CAPABILITIES[name];
      if (capability?.system !== id) return [];
      return [
        {
          name: `${tenant}/${name}`,
          sha256: tokenDigest(secret),
          account: `${tenant}-1`,
          may: [capability.may],
        },
      ];
    }),
  );
  const intake = credentials.intake[id];
  return {
    tokens:
      intake === undefined
        ? tokens
        : [...tokens, { name: 'intake', sha256: tokenDigest(intake), account: 'intake', may: ['intake'] }],
  };
}

/** Whole or not at all, and for the owner alone. */
function writeWhole(file: string, text: string): void {
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, text, { mode: 0o600 });
  chmodSync(draft, 0o600);
  renameSync(draft, file);
}
