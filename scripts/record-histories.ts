import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { APPROVAL_CASES } from '../test/replay/approval-cases';
import { CONTROL_CASES } from '../test/replay/control-cases';
import { FOLLOW_CASES } from '../test/replay/follow-cases';
import { createGround, type Case, type Ground } from '../test/replay/ground';
import { historyToText } from '../test/replay/history-json';
import { RUN_CASES } from '../test/replay/run-cases';
import globalSetup from '../test/support/global-setup';
import globalTeardown from '../test/support/global-teardown';

/**
 * Records golden histories: plays each case on the real stack with the workflows as they are now, and keeps what Temporal
 * kept, all but its stack traces, as `test/replay/histories/<workflow>.<case>.v<n>.json`. A file that is there is never
 * written again: without arguments, cases without any file get their first; a case that is named gets its next version.
 *
 *     node scripts/run.js scripts/record-histories.ts [--series <n>] [--out <folder>] [<workflow>.<case> …]
 */
const options = process.argv.slice(2);
const option = (name: string): string | undefined => {
  const at = options.indexOf(name);
  return at < 0 ? undefined : options.splice(at, 2)[1];
};
const folder = path.resolve(option('--out') ?? 'test/replay/histories');
/** Which of the versions this recording is: rises with each change of the workflows that adds commands. */
const series = Number(option('--series') ?? 1);
const named = options;

async function main(): Promise<void> {
  const kept = readdirSync(folder);
  const wanted = [...RUN_CASES, ...FOLLOW_CASES, ...APPROVAL_CASES, ...CONTROL_CASES].filter((each) =>
    named.length > 0
      ? named.includes(title(each))
      : !kept.some((file) => file.startsWith(`${title(each)}.`) || file.startsWith(`${title(each)}-part-`)),
  );
  await globalSetup();
  const ground = await createGround();
  try {
    for (const each of wanted) await record(ground, each);
  } finally {
    await ground.close();
    await globalTeardown();
  }
}

async function record(ground: Ground, each: Case): Promise<void> {
  ground.outside.faults = {};
  ground.model.failWith = undefined;
  const played = await each.play(ground);
  for (const one of 'workflowId' in played ? [played] : played) {
    const file = path.join(folder, `${title(each)}${one.part ? `-part-${one.part}` : ''}.v${series}.json`);
    if (existsSync(file))
      throw new Error(`${file} is there: a history that was recorded is never recorded over`);
    const history = await ground.stack.temporal.workflow.getHandle(one.workflowId, one.runId).fetchHistory();
    writeFileSync(file, historyToText(history));
    process.stdout.write(`${path.basename(file)}: ${history.events?.length} events\n`);
  }
}

const title = ({ workflow, name }: Case): string => `${workflow}.${name}`;

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
