import { readFile } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import type { output, ZodType } from 'zod';
import { milliseconds } from '../../contracts/duration';
import { TenantId } from '../../contracts/ids';
import type { BulkheadClient } from '../bulkhead';
import { OPERATOR_ROLE } from '../caller';
import { BulkheadError } from '../errors';
import type { CliContext, CliRuntime } from './context';
import { UsageError } from './exit';
import type { Format } from './output';

/** Options that every command has. */
export interface Common {
  readonly output: Format;
  readonly env?: string;
}

/** A command with the options that all share, and examples at the end of its help. */
export function verb(noun: Command, usage: string, description: string, examples: string[]): Command {
  return noun
    .command(usage)
    .description(description)
    .addOption(
      new Option('-o, --output <format>', 'how to print').choices(['table', 'json']).default('table'),
    )
    .option('--env <environment>', 'environment (default: BULKHEAD_ENVIRONMENT, or prod)')
    .addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ ${line}`).join('\n')}\n`);
}

/** Options of the commands that act for a tenant, with its token. */
export interface Who extends Common {
  readonly token?: string;
  readonly tenant?: string;
}

/** A command that acts with a bearer token. */
export const asWho = (command: Command): Command =>
  command
    .option(
      '--tenant <tenant>',
      'the tenant to act for, on a development stack; must agree with the token, if one is given',
    )
    .option('--token <jwt>', 'bearer token (default: BULKHEAD_TOKEN)');

/** A tenant named beside a token is only ever compared with it. */
export const named = (options: Who): { tenantId?: string } =>
  options.tenant === undefined ? {} : { tenantId: options.tenant };

/** Runs a command's body as the bearer of its token. */
export async function asBearer(
  context: CliContext,
  options: Who,
  body: (
    bulkhead: BulkheadClient,
    asking: { token: string; tenantId?: string },
    runtime: CliRuntime,
  ) => Promise<void>,
): Promise<void> {
  await withRuntime(context, options, async (runtime) => {
    const token = await tokenFor(context, runtime, options);
    await body(await runtime.bulkhead(), { token, ...named(options) }, runtime);
  });
}

/** A whole number from 1 to `most`. Throws {@link UsageError}. */
export function wholeNumber(name: string, text: string, most = Number.MAX_SAFE_INTEGER): number {
  const number = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > most)
    throw new UsageError(
      `${name}: a whole number from 1${most === Number.MAX_SAFE_INTEGER ? '' : ` to ${most}`}`,
    );
  return number;
}

/** A command that lists, a page at a time. `last`: how the last row of a page is named. */
export const asPages = (command: Command, last: string): Command =>
  command
    .option('--limit <number>', 'at most so many, up to 500', '50')
    .option(`--before <${last}>`, 'only what is older: the last one of the page before');

/** The options of {@link asPages} for what is numbered. Throws {@link UsageError}. */
export const entryPageOf = ({ limit, before }: Paging): { limit: number; before?: number } => ({
  limit: pageSize(limit),
  ...(before === undefined ? {} : { before: wholeNumber('--before', before) }),
});

export interface Paging {
  readonly limit: string;
  readonly before?: string;
}

export const pageSize = (limit: string): number => wholeNumber('--limit', limit, 500);

/** A value in JSON. Throws {@link UsageError}, which repeats none of it. */
export function jsonOf(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(
      `${name} is no JSON: correct it, and quote it for the shell where it is an argument`,
    );
  }
}

/** A group of commands: `bulkhead tenant …`. */
export function noun(program: Command, name: string, description: string, example: string): Command {
  return program
    .command(name)
    .description(description)
    .addHelpText('after', `\nExamples:\n  $ ${example}\n  $ bulkhead ${name} help <verb>\n`);
}

/** Runs a command's body with what it opens, and closes that whatever happens. */
export async function withRuntime<T>(
  context: CliContext,
  options: { env?: string },
  body: (runtime: CliRuntime) => Promise<T>,
): Promise<T> {
  const runtime = context.open(options.env);
  try {
    return await body(runtime);
  } finally {
    await runtime.close();
  }
}

/** An option's value in the form that it has to have. Throws {@link UsageError}, which says what is allowed. */
export function optionOf<F extends ZodType>(name: string, form: F, value: unknown): output<F> {
  const parsed = form.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new UsageError(`${name}: ${parsed.error.issues[0]?.message ?? 'is malformed'}`);
}

/** The tenant that an operator named. Throws {@link UsageError} for none, or one that cannot be. */
export function requireTenant(tenant: string | undefined): TenantId {
  if (tenant === undefined) throw new UsageError('which tenant? Name it with --tenant');
  return optionOf('--tenant', TenantId, tenant);
}

/** A file's text, or standard input's for `-`. */
export async function textOf(context: CliContext, file: string): Promise<string> {
  if (file === '-') {
    const piped = await context.stdin();
    if (piped === undefined)
      throw new UsageError('nothing came on standard input: pipe the text in, or name a file');
    return piped;
  }
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new UsageError(
      `${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'}): name a file that exists, or - for standard input`,
    );
  }
}

/** Milliseconds of `10s`, `5m`. Throws {@link UsageError}. */
export function durationOption(name: string, value: string): number {
  try {
    return milliseconds(value);
  } catch (error) {
    throw new UsageError(`${name}: ${error instanceof Error ? error.message : 'is malformed'}`);
  }
}

/** Tokens that the CLI makes for itself live only as long as a command or two. */
const OWN_TOKEN_SECONDS = 900;

/**
 * The bearer token of a command: `--token`, else BULKHEAD_TOKEN, else one of the development issuer for `--tenant`,
 * where this stack has that issuer's key. Never another tenant's: `--tenant` beside a token must agree with it.
 */
export async function tokenFor(
  context: CliContext,
  runtime: CliRuntime,
  options: { token?: string; tenant?: string },
): Promise<string> {
  const given = options.token ?? runtime.bearer;
  if (given !== undefined) return given;
  const issuer = runtime.devIssuer();
  if (!issuer) {
    throw new BulkheadError(
      'unauthenticated',
      'who are you? Set BULKHEAD_TOKEN, or give --token, a token of your identity provider; beside a running `bulkhead up`, --tenant is enough',
      { reason: 'missing' },
    );
  }
  const tenant = requireTenant(options.tenant);
  const record = await (await runtime.storage()).tenant(runtime.operatorScope(tenant)).record();
  if (!record) throw unknownTenant(tenant, runtime.environment);
  return issuer.token({
    tenant,
    environment: runtime.environment,
    workspaces: [...record.workspaces],
    // Whoever holds the development issuer's key decides here.
    roles: [OPERATOR_ROLE],
    subject: `cli:${context.user}`,
    ttlSeconds: OWN_TOKEN_SECONDS,
  });
}

export const unknownTenant = (tenant: string, environment: string): BulkheadError =>
  new BulkheadError(
    'not_found',
    `there is no tenant ${tenant} in environment ${environment}: \`bulkhead tenant list\` shows those there are`,
    { reason: 'unknown_tenant' },
  );
