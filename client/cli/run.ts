import { Option, type Command } from 'commander';
import type { RunRow } from '../../contracts/rows';
import { RUN_STATES, STOP_REASONS, type RunState, type StopReason } from '../../contracts/states';
import {
  asBearer,
  asPages,
  asWho,
  durationOption,
  jsonOf,
  named,
  noun,
  pageSize,
  textOf,
  tokenFor,
  verb,
  wholeNumber,
  withRuntime,
  type Paging,
  type Who,
} from './command';
import type { CliContext } from './context';
import { Exit, UsageError, exitOfStop } from './exit';
import { printFields, printPage, printable, type Format } from './output';
import { registerRunAfter } from './run-after';
import { registerRunLook, runFields } from './run-look';
import { approvalLine, reviewLine } from './wording';
import type { WaitingForPeople } from '../beside';
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
    .option('--priority <1-5>', 'among the queued runs of its tenant: 1 goes first, 3 is what runs have')
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
          priority?: string;
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
            ...(options.priority === undefined
              ? {}
              : { priority: wholeNumber('--priority', options.priority, 5) }),
            ...named(options),
          });
          if (run.acceptance?.notice) context.say(run.acceptance.notice);
          if (options.wait) printResult(context, options.output, await ended(context, run, timeoutMs));
          else printRun(context, options.output, await run.row(), run.acceptance?.existing);
        }),
    );

  asPages(
    asWho(
      verb(group, 'list', 'the newest runs of your tenant and workspaces', [
        'bulkhead run list --tenant acme --state running',
        'bulkhead run list -o json --limit 200',
        'bulkhead run list --tenant acme --before 6f1c…',
        'bulkhead run list --tenant acme --before 2026-03-01T12:00:00Z',
      ]),
    ),
    'run-or-time',
  )
    .addOption(new Option('--state <state>', 'only those in it').choices(Object.keys(RUN_STATES)))
    .addOption(
      new Option('--stop-reason <reason>', 'only those that ended so').choices(Object.keys(STOP_REASONS)),
    )
    .action(async (options: Who & Paging & { state?: RunState; stopReason?: StopReason }) => {
      const limit = pageSize(options.limit);
      await asBearer(context, options, async (bulkhead, asking) => {
        const rows = await bulkhead.runs({
          ...asking,
          limit,
          ...(options.before === undefined ? {} : { before: options.before }),
          ...(options.state === undefined ? {} : { state: options.state }),
          ...(options.stopReason === undefined ? {} : { stopReason: options.stopReason }),
        });
        printPage(
          context,
          options.output,
          { rows, limit, name: (row) => row.runId },
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
      });
    });

  asWho(
    verb(
      group,
      'wait <run>',
      'wait until a run is closed, and say what waits for a person; exits 0 only if it completed',
      ['bulkhead run wait 6f1c… --tenant acme --timeout 5m'],
    ),
  )
    .option('--timeout <duration>', 'how long to wait', '10m')
    .action(async (runId: string, options: Who & { timeout: string }) => {
      const timeoutMs = durationOption('--timeout', options.timeout);
      await one(options, runId, async (run) =>
        printResult(context, options.output, await ended(context, run, timeoutMs)),
      );
    });

  asWho(
    verb(group, 'cancel <run>', 'ask a run to stop', [
      'bulkhead run cancel 6f1c… --tenant acme --reason "asked for by mistake"',
    ]),
  )
    .requiredOption('--reason <text>', 'why; it is kept in the run’s history')
    .action(async (runId: string, options: Who & { reason: string }) =>
      one(options, runId, async (run) => {
        await run.cancel(options.reason);
        printRun(context, options.output, await run.row());
        context.say(`run ${run.runId} was told to stop; \`bulkhead run wait ${run.runId}\` says when it has`);
      }),
    );

  registerRunLook(group, context);
  registerRunAfter(group, context);
}

/** Waits for a run's end. What of it waits for a person is said as it comes up, each once: a silent wait helps nobody. */
async function ended(context: CliContext, run: Run, timeoutMs: number): Promise<RunResult> {
  const said = new Set<number>();
  const sayOnce = (no: number, line: string): void => {
    if (!said.has(no)) context.say(printable(line));
    said.add(no);
  };
  const onLook = ({ approvals, reviews }: WaitingForPeople): void => {
    for (const one of approvals)
      sayOnce(
        one.approvalNo,
        `needs approval  ${approvalLine(one)}; see bulkhead approval show ${one.approvalNo}`,
      );
    for (const one of reviews)
      sayOnce(one.reviewNo, `needs a review  ${reviewLine(one)}; see bulkhead review show ${one.reviewNo}`);
  };
  return run.result({ timeoutMs, signal: context.signal, onLook });
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
