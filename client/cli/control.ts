import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Environment, TenantId } from '../../contracts/ids';
import { controlWorkflowId } from '../../contracts/workflow-ids';
import type { ControlState } from '../../contracts/workflow-io';
import { CONTROL_DEADLINE_MS, commandControl, queryControl } from '../control';
import { BulkheadError } from '../errors';
import { durationOption, requireTenant, unknownTenant, verb, withRuntime, type Common } from './command';
import type { CliContext, CliRuntime } from './context';
import { EXIT, Exit } from './exit';
import { printFields } from './output';

/**
 * After the fence's commit, no host sends a request later than this: hosts send only what a poll begun within the last
 * second confirmed, plus a margin (docs/ledger.md).
 */
const EFFECTS_STOP_MS = 1_300;

interface ControlOptions extends Common {
  readonly tenant: string;
  readonly reason: string;
  readonly actor: string;
}

/** `bulkhead kill` and `bulkhead release`. */
export function registerControl(program: Command, context: CliContext): void {
  verb(program, 'kill', 'stop a tenant: no further effect, every run closed; other tenants notice nothing', [
    'bulkhead kill --tenant acme --reason "refunds without end"',
    'bulkhead kill --tenant acme --reason drill --no-wait',
  ])
    .requiredOption('--tenant <tenant>', 'whom to stop')
    .requiredOption('--reason <text>', 'why, for the journal')
    .option('--actor <name>', 'who does it, for the journal', context.user)
    .option('--no-wait', 'return once the fence stands, without waiting until all is closed')
    .option('--timeout <duration>', 'how long to watch', '2m')
    .action(async (options: ControlOptions & { wait: boolean; timeout: string }) =>
      withRuntime(context, options, async (runtime) => {
        const timeoutMs = durationOption('--timeout', options.timeout);
        const tenant = await knownTenant(runtime, options.tenant);
        const began = Date.now();
        const fenced = await act(context, runtime, tenant, 'kill', options, timeoutMs);
        context.say(
          `fenced      ${fenced.fencedAt ?? ''}  no new call is admitted, no run starts, no credential is lent`,
        );
        if (!options.wait) {
          printState(context, options, fenced);
          return;
        }
        const last = await watch(context, runtime, tenant, fenced, began + timeoutMs);
        printState(context, options, last);
        if (last.drainedAt === null) {
          context.say(missing(runtime, tenant, last));
          throw new Exit(EXIT.failed);
        }
      }),
    );

  verb(program, 'release', 'let a killed tenant work again: new runs start, killed ones stay closed', [
    'bulkhead release --tenant acme --reason "fixed in 1.4.2"',
  ])
    .requiredOption('--tenant <tenant>', 'whom to release')
    .requiredOption('--reason <text>', 'why, for the journal')
    .option('--actor <name>', 'who does it, for the journal', context.user)
    .action(async (options: ControlOptions) =>
      withRuntime(context, options, async (runtime) => {
        const tenant = await knownTenant(runtime, options.tenant);
        printState(context, options, await act(context, runtime, tenant, 'release', options));
      }),
    );
}

/** A tenant that exists. Where the database is away nobody can say, and a kill must not wait for it. */
async function knownTenant(runtime: CliRuntime, named: string): Promise<TenantId> {
  const tenant = requireTenant(named);
  const known = await record(runtime, tenant);
  if (known === 'none') throw unknownTenant(tenant, runtime.environment);
  return tenant;
}

async function record(runtime: CliRuntime, tenant: TenantId): Promise<'known' | 'none' | 'unsure'> {
  try {
    return (await (await runtime.storage()).tenant(runtime.operatorScope(tenant)).record())
      ? 'known'
      : 'none';
  } catch (error) {
    if (error instanceof Error) return 'unsure';
    throw error;
  }
}

async function act(
  context: CliContext,
  runtime: CliRuntime,
  tenant: TenantId,
  op: 'kill' | 'release',
  options: ControlOptions,
  timeoutMs = CONTROL_DEADLINE_MS,
): Promise<ControlState> {
  try {
    return await commandControl(
      await runtime.temporal(),
      tenant,
      runtime.environment,
      {
        op,
        scope: { kind: 'tenant' },
        reason: options.reason,
        actor: options.actor,
      },
      Math.min(timeoutMs, CONTROL_DEADLINE_MS),
    );
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'unavailable')
      context.say(byHand(runtime, tenant, op));
    throw error;
  }
}

/** Says each stage as it is reached, until all runs are closed or the time is over. */
async function watch(
  context: CliContext,
  runtime: CliRuntime,
  tenant: TenantId,
  fenced: ControlState,
  deadline: number,
): Promise<ControlState> {
  const effectsStop = Date.now() + EFFECTS_STOP_MS;
  let said = { effects: false, contained: false };
  for (let last = fenced; ;) {
    const now = (await currentState(runtime, tenant, runtime.environment)) ?? last;
    // A newer kill has taken over, or a release: what is watched here is this one.
    if (now.fenceEpoch === fenced.fenceEpoch) last = now;
    if (!said.effects && (Date.now() >= effectsStop || last.containedAt !== null)) {
      said = { ...said, effects: true };
      context.say('effects stopped  no host sends a request of an earlier call any more');
    }
    if (!said.contained && last.containedAt !== null) {
      said = { ...said, contained: true };
      context.say(`contained   ${last.containedAt}  no call admitted before can still act`);
    }
    if (last.drainedAt !== null) {
      context.say(`drained     ${last.drainedAt}  every run is closed`);
      return last;
    }
    if (Date.now() >= deadline) return last;
    await sleep(200, undefined, { signal: context.signal });
  }
}

/** The row is the truth; the workflow is asked where the database does not answer. */
async function currentState(
  runtime: CliRuntime,
  tenant: TenantId,
  environment: Environment,
): Promise<ControlState | undefined> {
  try {
    return await (await runtime.storage()).tenant(runtime.operatorScope(tenant)).control();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return queryControl(await runtime.temporal(), tenant, environment);
  }
}

function missing(runtime: CliRuntime, tenant: TenantId, state: ControlState): string {
  const stage =
    state.containedAt === null
      ? 'a call admitted before the fence may still act'
      : 'some runs are not closed yet';
  return `${stage}; the fence stands all the same. See that the control worker runs (\`bulkhead doctor\`), then look again:\n  bulkhead tenant show ${tenant}\n  temporal workflow query ${runtime.temporalHint} --workflow-id ${controlWorkflowId(tenant, runtime.environment)} --type controlState`;
}

function byHand(runtime: CliRuntime, tenant: TenantId, op: string): string {
  return `by hand, with nothing of Bulkhead but the workers:\n  temporal workflow signal ${runtime.temporalHint} --workflow-id ${controlWorkflowId(tenant, runtime.environment)} --name ${op} --input '{"scope":{"kind":"tenant"},"reason":"by hand","actor":"you"}'`;
}

function printState(context: CliContext, options: Common, state: ControlState): void {
  printFields(context, options.output, state, {
    mode: state.mode,
    'fence epoch': state.fenceEpoch,
    fenced: state.fencedAt,
    contained: state.containedAt,
    drained: state.drainedAt,
    reason: state.reason,
    actor: state.actor,
  });
}
