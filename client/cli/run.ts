import { Option, type Command } from 'commander';
import type { RunRow } from '../../contracts/ports';
import { RUN_STATES, STOP_REASONS, type RunState, type StopReason } from '../../contracts/states';
import {
  asBearer,
  asWho,
  durationOption,
  jsonOf,
  named,
  noun,
  textOf,
  tokenFor,
  verb,
  wholeNumber,
  withRuntime,
  type Who,
} from './command';
import type { CliContext } from './context';
import { Exit, UsageError, exitOfStop } from './exit';
import { printFields, printRows, type Format } from './output';
import { registerRunAfter } from './run-after';
import { letterLine, orderLine, resolveHints, reviewLine } from './wording';
import type { Run, RunResult } from '../run';

/** `bulkhead run …`: the tenant's side. Each command acts with a bearer token. */
export function registerRun(program: Command, context: CliContext): void {
  const group = noun(program, 'run', 'start runs, and see what they do', 'bulkhead run list --tenant acme');
  const one = async (options: Who, runId: string, body: (run: Run) => Promise<void>): Promise<void> =>
    asBearer(context, options, async (bulkhead, asking) => body(await bulkhead.run({ ...asking, runId })));

  asWho(
    verb(group, 'start', 'accept a run and start it', [
      `bulkhead run start --tenant acme --agent support_triage --input '{"ticket":"T-1"}' --target helpdesk:T-1 --wait`,
      'bulkhead run start --agent support_triage --input - < input.json',
    ]),
  )
    .requiredOption('--agent <agent>', 'the agent that works')
    .option('--input <json>', 'JSON, @file, or - for standard input', '{}')
    .option('--target <system:record>', 'the record that it is about')
    .option('--workspace <workspace>', 'needed where the token is for several')
    .option('--key <idempotency-key>', 'the same key and request answer the same run')
    .option('--wait', 'wait until it is closed')
    .option('--timeout <duration>', 'how long to wait', '10m')
    .action(
      async (
        options: Who & {
          agent: string;
          input: string;
          target?: string;
          workspace?: string;
          key?: string;
          wait?: true;
          timeout: string;
        },
      ) =>
        withRuntime(context, options, async (runtime) => {
          const timeoutMs = durationOption('--timeout', options.timeout);
          const input = jsonOf(
            '--input',
            options.input.startsWith('@') || options.input === '-'
              ? await textOf(context, options.input.replace(/^@/, ''))
              : options.input,
          );
          const token = await tokenFor(context, runtime, options);
          const bulkhead = await runtime.bulkhead();
          const run = await bulkhead.startRun({
            token,
            agent: options.agent,
            input,
            ...(options.target === undefined ? {} : { target: parseTarget(options.target) }),
            ...(options.workspace === undefined ? {} : { workspace: options.workspace }),
            ...(options.key === undefined ? {} : { idempotencyKey: options.key }),
            ...named(options),
          });
          if (run.acceptance?.notice) context.say(run.acceptance.notice);
          if (options.wait)
            printResult(context, options.output, await run.result({ timeoutMs, signal: context.signal }));
          else printRun(context, options.output, await run.row(), run.acceptance?.existing);
        }),
    );

  asWho(
    verb(group, 'list', 'the newest runs of your tenant and workspaces', [
      'bulkhead run list --tenant acme --state running',
      'bulkhead run list -o json --limit 200',
    ]),
  )
    .addOption(new Option('--state <state>', 'only those in it').choices(Object.keys(RUN_STATES)))
    .addOption(
      new Option('--stop-reason <reason>', 'only those that ended so').choices(Object.keys(STOP_REASONS)),
    )
    .option('--limit <number>', 'at most so many, up to 500', '50')
    .action(async (options: Who & { state?: RunState; stopReason?: StopReason; limit: string }) =>
      withRuntime(context, options, async (runtime) => {
        const limit = wholeNumber('--limit', options.limit, 500);
        const token = await tokenFor(context, runtime, options);
        const rows = await (
          await runtime.bulkhead()
        ).runs({
          token,
          limit,
          ...(options.state === undefined ? {} : { state: options.state }),
          ...(options.stopReason === undefined ? {} : { stopReason: options.stopReason }),
          ...named(options),
        });
        printRows(
          context,
          options.output,
          rows,
          {
            RUN: (row) => row.runId,
            AGENT: (row) => row.agentId,
            TARGET: (row) => (row.target ? `${row.target.system}:${row.target.recordId}` : '-'),
            STATE: (row) => row.state,
            'STOP REASON': (row) => row.stopReason,
            STEPS: (row) => row.steps,
            CALLS: (row) => row.toolCalls,
            REFUSED: (row) => row.refusals,
            ACCEPTED: (row) => row.acceptedAt,
          },
          'there are no runs',
        );
      }),
    );

  asWho(verb(group, 'show <run>', 'a run as it is now', ['bulkhead run show 6f1c… --tenant acme'])).action(
    async (runId: string, options: Who) =>
      one(options, runId, async (run) => {
        const row = await run.row();
        const beside = await run.beside();
        printFields(
          context,
          options.output,
          { ...row, ...beside },
          { ...runFields(row), ...besideFields(beside) },
        );
      }),
  );

  asWho(
    verb(group, 'wait <run>', 'wait until a run is closed; exits 0 only if it completed', [
      'bulkhead run wait 6f1c… --tenant acme --timeout 5m',
    ]),
  )
    .option('--timeout <duration>', 'how long to wait', '10m')
    .action(async (runId: string, options: Who & { timeout: string }) => {
      const timeoutMs = durationOption('--timeout', options.timeout);
      await one(options, runId, async (run) =>
        printResult(context, options.output, await run.result({ timeoutMs, signal: context.signal })),
      );
    });

  asWho(
    verb(group, 'explain <run>', 'what a run waits for, which limit or rule binds, and since when', [
      'bulkhead run explain 6f1c… --tenant acme',
    ]),
  ).action(async (runId: string, options: Who) =>
    one(options, runId, async (run) => {
      const why = await run.explain();
      const { waitsFor, lastRefusal } = why;
      printFields(context, options.output, why, {
        run: why.runId,
        state: why.state,
        ...(why.stopReason === null ? {} : { 'stop reason': why.stopReason }),
        means: why.means,
        since: why.since,
        ...(waitsFor
          ? {
              'waits for': waitsFor.message,
              rule: waitsFor.rule,
              ...(why.state === 'review_required'
                ? {}
                : {
                    limit: waitsFor.value,
                    used: waitsFor.used,
                    'frees in':
                      waitsFor.retryAfterMs === undefined ? undefined : `${waitsFor.retryAfterMs} ms`,
                  }),
            }
          : {}),
        ...(why.reviews.length > 0
          ? {
              reviews: why.reviews.map(reviewLine).join('\n'),
              'resolve with': why.reviews
                .flatMap((review) => resolveHints(review, options.tenant))
                .join('\n'),
            }
          : {}),
        ...(lastRefusal && !waitsFor
          ? {
              'last refused': `${lastRefusal.action} at ${lastRefusal.at}, by ${lastRefusal.refusal.origin} (${lastRefusal.refusal.rule}): ${lastRefusal.refusal.message}`,
            }
          : {}),
      });
    }),
  );

  asWho(
    verb(group, 'cancel <run>', 'ask a run to stop', [
      'bulkhead run cancel 6f1c… --tenant acme --reason "asked for by mistake"',
    ]),
  )
    .requiredOption('--reason <text>', 'why; it is kept in the run’s history')
    .action(async (runId: string, options: Who & { reason: string }) =>
      one(options, runId, async (run) => {
        await run.cancel(options.reason);
        context.say(`run ${run.runId} was told to stop; \`bulkhead run wait ${run.runId}\` says when it has`);
      }),
    );

  registerRunAfter(group, context);
}

function parseTarget(text: string): { system: string; recordId: string } {
  const colon = text.indexOf(':');
  if (colon < 1 || colon === text.length - 1)
    throw new UsageError('--target is system:record, as in helpdesk:T-1');
  return { system: text.slice(0, colon), recordId: text.slice(colon + 1) };
}

function printRun(context: CliContext, format: Format, row: RunRow, existing?: boolean): void {
  printFields(context, format, existing === undefined ? row : { ...row, existing }, runFields(row, existing));
}

function runFields(row: RunRow, existing?: boolean): Record<string, unknown> {
  return {
    run: row.runId,
    state: row.state,
    'stop reason': row.stopReason,
    agent: `${row.agentId} (${row.agentVersion})`,
    workspace: row.workspaceId,
    target: row.target ? `${row.target.system}:${row.target.recordId}` : null,
    accepted: existing ? `${row.acceptedAt} (an earlier run with this key)` : row.acceptedAt,
    entered: row.enteredAt,
    closed: row.closedAt,
    steps: row.steps,
    'tool calls': row.toolCalls,
    refused: row.refusals,
    'spent (µ$)': row.spentMicroUsd,
    workflow: row.workflowId,
  };
}

function besideFields(beside: Awaited<ReturnType<Run['beside']>>): Record<string, unknown> {
  const lines = {
    reviews: beside.reviews.map(reviewLine),
    'dead letters': beside.deadLetters.map(letterLine),
    'ordered since': beside.followUps.map(orderLine),
  };
  return Object.fromEntries(
    Object.entries(lines)
      .filter(([, found]) => found.length > 0)
      .map(([name, found]) => [name, found.join('\n')]),
  );
}

function printResult(context: CliContext, format: Format, result: RunResult): void {
  printFields(context, format, result, {
    run: result.runId,
    state: result.state,
    'stop reason': `${result.stopReason} (${STOP_REASONS[result.stopReason].means})`,
    steps: result.usage.steps,
    'tool calls': result.usage.toolCalls,
    refused: result.usage.refusals,
    'spent (µ$)': result.usage.spentMicroUsd,
    output: result.output,
  });
  const code = exitOfStop(result.stopReason);
  if (code !== 0) throw new Exit(code);
}
