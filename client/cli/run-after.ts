import type { Command } from 'commander';
import type { FollowUp } from '../../contracts/reviews';
import type { UndoneCall } from '../follow-ups';
import { asBearer, asWho, durationOption, verb, wholeNumber, type Who } from './command';
import type { CliContext } from './context';
import { EXIT, Exit } from './exit';
import { printFields, printRows, type Format } from './output';
import { resolveHints, reviewLine } from './wording';

/** `bulkhead run rollback|fork|replay`: what is done about a run after it ran. */
export function registerRunAfter(group: Command, context: CliContext): void {
  asWho(
    verb(group, 'rollback <run>', 'undo the writes of a closed run, newest first, each exactly once', [
      'bulkhead run rollback 6f1c… --tenant acme --note "wrong customer"',
      'bulkhead run rollback 6f1c… --tenant acme --no-wait',
    ]),
  )
    .option('--note <text>', 'why, for the journal')
    .option('--actor <name>', 'on whose word, for the journal (default: whom the token names)')
    .option('--no-wait', 'return once it is ordered')
    .option('--timeout <duration>', 'how long to watch; the undo itself goes on', '5m')
    .action(
      async (
        runId: string,
        options: Who & { note?: string; actor?: string; wait: boolean; timeout: string },
      ) => {
        const timeoutMs = durationOption('--timeout', options.timeout);
        await asBearer(context, options, async (bulkhead, asking) => {
          const run = await bulkhead.run({ ...asking, runId });
          const undo = await run.rollback({
            ...(options.note === undefined ? {} : { note: options.note }),
            ...(options.actor === undefined ? {} : { actor: options.actor }),
          });
          if (undo.notice) context.say(undo.notice);
          context.say(
            `${undo.existing ? 'ordered before, by' : 'ordered, by'} ${undo.order.actor} (order ${undo.order.followUpNo})`,
          );
          if (!options.wait) {
            printFields(context, options.output, undo.order, {
              run: undo.runId,
              order: undo.order.followUpNo,
              state: undo.order.state,
            });
            return;
          }
          const said = new Set<string>();
          const sayOnce = (line: string): void => {
            if (!said.has(line)) context.say(line);
            said.add(line);
          };
          const done = await undo.result({
            timeoutMs,
            signal: context.signal,
            onProgress: async ({ reviews }) => {
              for (const call of await undo.calls())
                if (call.became === 'undone') sayOnce(`undone      ${call.action} at ${call.path}`);
              for (const review of reviews) {
                sayOnce(`needs you   review ${reviewLine(review)}`);
                for (const hint of resolveHints(review, options.tenant)) sayOnce(`            ${hint}`);
              }
            },
          });
          const calls = await undo.calls();
          printOutcome(context, options.output, done, calls);
          // Left although there is a way to undo it: an operator stopped the undo, and it may be ordered again.
          const stopped = calls.filter(({ became, undoable }) => became === 'left' && undoable !== false);
          if (stopped.length > 0) {
            context.say(
              stopped.some(({ undoable }) => undoable)
                ? 'the undo was stopped before its end, by a kill: release the tenant, then ask for it again'
                : `${stopped.length} left that the app may have a way to undo, and this process does not know it: set BULKHEAD_APP and ask again, after a release if the tenant was killed`,
            );
            throw new Exit(EXIT.failed);
          }
        });
      },
    );

  asWho(
    verb(
      group,
      'fork <run>',
      'a new run that knows what this one knew before a step, and goes on from there',
      ['bulkhead run fork 6f1c… --tenant acme --from-step 3'],
    ),
  )
    .requiredOption('--from-step <number>', 'the first step that is made anew, from 0')
    .option('--key <idempotency-key>', 'the same key and request answer the same run')
    .action(async (runId: string, options: Who & { fromStep: string; key?: string }) => {
      const fromStep = options.fromStep === '0' ? 0 : wholeNumber('--from-step', options.fromStep, 10_000);
      await asBearer(context, options, async (bulkhead, asking) => {
        const run = await bulkhead.forkRun({
          ...asking,
          runId,
          fromStep,
          ...(options.key === undefined ? {} : { idempotencyKey: options.key }),
        });
        if (run.acceptance?.notice) context.say(run.acceptance.notice);
        const row = await run.row();
        printFields(
          context,
          options.output,
          { ...row, forkedFrom: runId, fromStep },
          {
            run: row.runId,
            'forked from': `${runId}, step ${fromStep}`,
            state: row.state,
            accepted: run.acceptance?.existing
              ? `${row.acceptedAt} (an earlier run with this key)`
              : row.acceptedAt,
            workflow: row.workflowId,
          },
        );
      });
    });

  asWho(
    verb(
      group,
      'replay <run>',
      'replay a run’s history against today’s workflows, and hold it against the journal; exits 1 where they differ',
      ['bulkhead run replay 6f1c… --tenant acme', 'bulkhead run replay 6f1c… --tenant acme -o json'],
    ),
  ).action(async (runId: string, options: Who) => {
    await asBearer(context, options, async (bulkhead, asking, runtime) => {
      // Seen first: the replay itself works with what the process may reach, not with the token.
      const run = await bulkhead.run({ ...asking, runId });
      const report = await runtime.replay(await run.row());
      if (options.output === 'json') printFields(context, 'json', report, {});
      else {
        printRows(
          context,
          'table',
          report.calls,
          {
            CALL: (call) => call.path,
            ACTION: (call) => call.action,
            HISTORY: (call) => call.history,
            JOURNAL: (call) => call.journal,
            '': (call) => (call.agrees ? 'agrees' : 'DIFFERS'),
          },
          'the run made no call',
        );
        context.say(
          report.replays
            ? `${report.histories} ${report.histories === 1 ? 'history' : 'histories'} of ${report.events} events: replayed against today’s workflows`
            : `it does not replay: ${report.because ?? 'no reason given'}`,
        );
      }
      if (!report.replays || report.calls.some((call) => !call.agrees)) throw new Exit(EXIT.failed);
    });
  });
}

function printOutcome(
  context: CliContext,
  format: Format,
  done: FollowUp,
  calls: readonly UndoneCall[],
): void {
  if (format === 'json') {
    printFields(context, 'json', { ...done, calls }, {});
    return;
  }
  printRows(
    context,
    'table',
    calls,
    {
      WRITE: (call) => call.action,
      CALL: (call) => call.path,
      BECAME: (call) => call.became.replace('_', ' '),
      IS: (call) => call.reversible,
    },
    '',
  );
  const { undone = 0, left = 0, abandoned = 0 } = done.outcome ?? {};
  context.say(`${undone} undone, ${left} left as they are, ${abandoned} given up in a review`);
}
