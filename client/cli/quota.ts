import type { Command } from 'commander';
import type { TenantId } from '../../contracts/ids';
import {
  limitNames,
  mistakeIn,
  type QuotaChange,
  type QuotaOf,
  type QuotaState,
} from '../../contracts/quotas';
import { closest } from '../../policy/mistakes';
import { tellWaiting } from '../wake';
import { noun, requireTenant, unknownTenant, verb, withRuntime, type Common, type Who } from './command';
import type { CliContext, CliRuntime } from './context';
import { UsageError } from './exit';
import { jsonText, printRows } from './output';

interface SetOptions extends Common {
  readonly agent?: string;
  readonly action?: string;
  readonly perRun?: true;
  readonly actor: string;
}

/** `bulkhead quota show|set`: what a tenant may use, what it has used, and other limits for one tenant alone. */
export function registerQuota(program: Command, context: CliContext): void {
  const group = noun(
    program,
    'quota',
    'see how much of each limit is used, and set limits of one tenant',
    'bulkhead quota show acme',
  );

  verb(
    group,
    'show [tenant]',
    'every limit of a tenant: what is used, what calls in flight hold of it, what is free and when it frees; what it has of shared capacity',
    ['bulkhead quota show acme', 'bulkhead quota show --token "$TOKEN" -o json'],
  )
    .option('--tenant <tenant>', 'the same, as an option')
    .option('--token <jwt>', 'bearer token of the tenant’s own (default: BULKHEAD_TOKEN)')
    .action(async (named: string | undefined, options: Who) =>
      withRuntime(context, options, async (runtime) => {
        if (named !== undefined && options.tenant !== undefined && named !== options.tenant)
          throw new UsageError('two tenants are named: name one');
        const state = await quotaFor(runtime, options, named ?? options.tenant);
        printQuota(context, options, state, [...state.layers, ...shareRows(state)]);
        if (options.output !== 'json') sayCapacity(context, state);
      }),
    );

  verb(
    group,
    'set <tenant> <limits...>',
    'set limits of one tenant alone, as <limit>=<value>; in force for the next call, of runs that wait too',
    [
      'bulkhead quota set acme callsInFlight=20 toolCallsPerDay=50000',
      'bulkhead quota set acme toolCallsPerDay=default',
      'bulkhead quota set acme callsPerMinute=10 --action web.search',
      'bulkhead quota set acme spendMicroUsdPerDay=5000000 --agent support_triage',
      'bulkhead quota set acme steps=80 --per-run',
    ],
  )
    .option('--agent <id>', 'limits of one agent')
    .option('--action <name>', 'limits of one action')
    .option('--per-run', 'the budget of each run')
    .option('--actor <name>', 'who does it, for the journal', context.user)
    .addHelpText(
      'after',
      `\nLimits:\n${limitsHelp()}\nThe value \`default\` is the quota class’s own again.\n`,
    )
    .action(async (named: string, limits: string[], options: SetOptions) => {
      const of = quotaOf(options);
      const changes = limits.map((text) => changeOf(of, text));
      const doubled = changes.find(({ limit }, at) => changes.findIndex((one) => one.limit === limit) !== at);
      if (doubled) throw new UsageError(`${doubled.limit} is set twice: set it once`);
      const tenant = requireTenant(named);
      await withRuntime(context, options, async (runtime) => {
        const scope = runtime.operatorScope(tenant);
        const store = (await runtime.storage()).tenant(scope);
        if (!(await store.record())) throw unknownTenant(tenant, runtime.environment);
        await (await runtime.operator()).setQuota(scope, of, changes, options.actor);
        await wakeTenants(context, runtime, [tenant]);
        const state = await quotaOfTenant(runtime, tenant);
        const whose = of.kind === 'tenant' ? '' : 'name' in of ? `${of.kind}:${of.name}` : of.kind;
        printQuota(context, options, {
          ...state,
          layers: state.layers.filter(
            (layer) => layer.of === whose && changes.some(({ limit }) => limit === layer.limit),
          ),
        });
      });
    });
}

/** Tells the runs of these tenants that wait for a limit to ask again: their limits may be others now. */
export async function wakeTenants(
  context: CliContext,
  runtime: CliRuntime,
  tenants: readonly TenantId[],
): Promise<void> {
  const storage = await runtime.storage();
  for (const tenant of tenants) {
    const told = await tellWaiting({
      store: storage.tenant(runtime.operatorScope(tenant)),
      temporal: () => runtime.temporal(),
    });
    if (!told)
      context.say(
        `Temporal could not be reached, so the waiting runs of ${tenant} are not told: they ask again by themselves`,
      );
  }
}

/** With a token its own tenant's, which one that is named has to be; else that of the tenant which an operator names. */
async function quotaFor(
  runtime: CliRuntime,
  options: Pick<Who, 'token'>,
  named: string | undefined,
): Promise<QuotaState> {
  const token = options.token ?? runtime.bearer;
  if (token === undefined) return quotaOfTenant(runtime, requireTenant(named));
  return (await runtime.bulkhead()).quotas({ token, ...(named !== undefined && { tenantId: named }) });
}

async function quotaOfTenant(runtime: CliRuntime, tenant: TenantId): Promise<QuotaState> {
  const state = await (await runtime.storage()).tenant(runtime.operatorScope(tenant)).quotas();
  if (!state) throw unknownTenant(tenant, runtime.environment);
  return state;
}

function quotaOf({ agent, action, perRun }: SetOptions): QuotaOf {
  const named: QuotaOf[] = [
    ...(agent === undefined ? [] : [{ kind: 'agent', name: agent } as const]),
    ...(action === undefined ? [] : [{ kind: 'action', name: action } as const]),
    ...(perRun ? [{ kind: 'run' } as const] : []),
  ];
  if (named.length > 1)
    throw new UsageError(
      'limits are of an agent, an action or each run: give one of --agent, --action, --per-run',
    );
  return named[0] ?? { kind: 'tenant' };
}

/** One `<limit>=<value>`. Throws {@link UsageError} with what is wrong, and what may be meant. */
function changeOf(of: QuotaOf, text: string): QuotaChange {
  const [limit = '', value, ...more] = text.split('=');
  const names = limitNames(of);
  if (!names.includes(limit)) {
    const near = closest(limit, names);
    throw new UsageError(
      `there is no limit ${limit}${of.kind === 'tenant' ? '' : ` of ${of.kind === 'run' ? 'a run' : `an ${of.kind}`}`}: ${near ? `did you mean ${near}?` : `there is ${names.join(', ')}`}`,
    );
  }
  if (value === undefined || value === '' || more.length > 0)
    throw new UsageError(`${limit}: write ${limit}=<number>, or ${limit}=default`);
  if (value !== 'default' && !/^\d{1,16}$/.test(value))
    throw new UsageError(`${limit}: a whole number, or default`);
  const change = { limit, value: value === 'default' ? null : Number(value) };
  const mistake = mistakeIn(of, change);
  if (mistake !== undefined) throw new UsageError(`${limit}: ${mistake}`);
  return change;
}

const limitsHelp = (): string =>
  [
    `  of a tenant            ${limitNames({ kind: 'tenant' }).join(', ')}`,
    `  --agent and --action   ${limitNames({ kind: 'action', name: '' }).join(', ')}`,
    `  --per-run              ${limitNames({ kind: 'run' }).join(', ')}`,
  ].join('\n');

function printQuota(context: CliContext, { output }: Common, state: QuotaState, rows = state.layers): void {
  if (output === 'json') return context.write(`${jsonText(state)}\n`);
  printRows(
    context,
    output,
    rows,
    {
      OF: ({ of }) => (of === '' ? 'tenant' : of === 'run' ? 'each run' : of),
      LIMIT: ({ limit }) => limit,
      VALUE: ({ cap }) => cap,
      USED: ({ used }) => used,
      RESERVED: ({ reserved }) => reserved,
      FREE: ({ free }) => free,
      'FREES AT': ({ freesAt, freesInMs }) =>
        freesAt === null || freesInMs === null
          ? null
          : `${localTime(freesAt, state.timeZone)} (in ${inWords(freesInMs)})`,
    },
    '',
  );
  const own = Object.values(state.overrides).some((part) => Object.keys(part as object).length > 0);
  context.say(
    `quota class ${state.quotaClass}${own ? ', with limits set for this tenant alone' : ''}; days and times of ${state.timeZone}`,
  );
}

/** What it has of the shared capacity, as rows beside its limits. */
const shareRows = ({ capacity }: QuotaState): QuotaState['layers'] => {
  if (!capacity) return [];
  const { name, share, used, guaranteed } = capacity;
  const row = { of: `capacity:${name}`, used, reserved: used, freesAt: null, freesInMs: null };
  return [
    { ...row, limit: 'callsInFlight', cap: share, free: Math.max(0, share - used) },
    { ...row, limit: 'guaranteed', cap: guaranteed, free: Math.max(0, guaranteed - used) },
  ];
};

/** Of how much that is, and whether what is guaranteed can be kept. */
function sayCapacity(context: CliContext, { capacity }: QuotaState): void {
  if (!capacity) return;
  const { name, callsInFlight, promised, guaranteed } = capacity;
  context.say(
    `shared capacity ${name} carries ${callsInFlight} calls at a time; divided anew twice a second`,
  );
  if (guaranteed < promised)
    context.say(
      `${promised} calls are guaranteed and ${guaranteed} can be kept: more is guaranteed in all than ${name} has, or it is not divided yet`,
    );
}

/** `2025-03-11 00:00:00`, where the tenant's days are counted. */
const localTime = (iso: string, timeZone: string): string =>
  new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' }).format(
    new Date(iso),
  );

/** `3h 12m`, `45s`: the two largest parts, rounded up to a second. */
function inWords(ms: number): string {
  const seconds = Math.ceil(ms / 1_000);
  const parts = [
    [Math.floor(seconds / 3_600), 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}
