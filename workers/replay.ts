import type { Client } from '@temporalio/client';
import { Worker, type WorkflowBundleOption } from '@temporalio/worker';
import { journalEntries } from '../client/journal';
import type { CallAnswer } from '../contracts/calls';
import type { JournalEntry } from '../contracts/ledger';
import { followUpWorkflowId } from '../contracts/workflow-ids';
import type { TenantStore } from '../contracts/ports';
import type { RunRow } from '../contracts/rows';
import { NOT_UNDONE } from '../contracts/reviews';
import { executionsOf, toldCalls, type Execution, type ToldCall } from './replay-history';
import { journaledCalls, type JournaledCall } from './replay-journal';

/** One call as its history and its journal have it. */
export interface ReplayedCall {
  readonly path: string;
  readonly action: string;
  /** What the history says that the call answered, and what the journal says; `-` where one has nothing of it. */
  readonly history: string;
  readonly journal: string;
  readonly agrees: boolean;
}

export interface Replayed {
  readonly runId: string;
  /** Today's workflows make the same commands from the same histories. */
  readonly replays: boolean;
  /** Where they do not: which execution, and what the first difference is. */
  readonly because: string | null;
  /** Executions replayed: of the run, with those it continued, and of its follow-ups. */
  readonly histories: number;
  readonly events: number;
  readonly calls: readonly ReplayedCall[];
  readonly differences: number;
}

/**
 * Replays every execution of a run and of its follow-ups against the workflows of this version, and holds each governed
 * call of them against the run's journal, both ways (promise O3): an answer that the journal does not have, and an outcome
 * that no workflow asked for, are differences. Reads only. Throws what the client and the store throw.
 */
export async function replayRun(parts: {
  client: Client;
  store: TenantStore;
  bundle: WorkflowBundleOption;
  run: RunRow;
}): Promise<Replayed> {
  const { client, store, bundle, run } = parts;
  const followUps = await store.followUps(run.runId);
  const ids = [run.workflowId, ...followUps.map((each) => followUpWorkflowId(run.workflowId, each))];
  const executions: Execution[] = [];
  for (const id of ids) executions.push(...(await executionsOf(client, id)));
  const because = executions.some(({ workflowId }) => workflowId === run.workflowId)
    ? await firstViolation(bundle, executions)
    : 'Temporal has no history of this run any more: it is past its retention, or was deleted';
  const entries: JournalEntry[] = [];
  for await (const entry of journalEntries(store, run.runId)) entries.push(entry);
  const calls = await compare(executions, entries, async ({ kind, rule }) =>
    isFlood(journalEntries(store), kind, rule),
  );
  return {
    runId: run.runId,
    replays: because === null,
    because,
    histories: executions.length,
    events: executions.reduce((sum, { history }) => sum + (history.events?.length ?? 0), 0),
    calls,
    differences: calls.filter(({ agrees }) => !agrees).length,
  };
}

/** What the first execution that does not replay says; `null` where all do. */
async function firstViolation(
  workflowBundle: WorkflowBundleOption,
  executions: readonly Execution[],
): Promise<string | null> {
  const results = Worker.runReplayHistories(
    {
      workflowBundle,
      dataConverter: { payloadConverterPath: require.resolve('../workflows/payload-converter') },
    },
    executions,
  );
  for await (const { workflowId, runId, error } of results)
    if (error) return `${workflowId} (${runId}): ${error.message}`;
  return null;
}

/**
 * Holds what workflows were told against what the journal has, by path.
 *
 * @param isCounted whether such a refusal may be one that the journal only counted: of a flood it keeps the first ones.
 */
export async function compare(
  executions: readonly Execution[],
  entries: readonly JournalEntry[],
  isCounted: (refusal: { kind: string; rule: string }) => Promise<boolean>,
): Promise<ReplayedCall[]> {
  const told = toldCalls(executions);
  const journaled = journaledCalls(entries);
  const calls: ReplayedCall[] = [];
  for (const path of new Set([...told.keys(), ...journaled.keys()])) {
    const call = told.get(path);
    const journal = journaled.get(path);
    const difference = call ? await differenceOf(call, journal, isCounted) : undefined;
    const last = difference ?? call?.answers.at(-1);
    calls.push({
      path,
      action: journal?.action ?? call?.activity ?? '-',
      history: call ? (last ? inWords(last) : 'asked, never answered') : '-',
      journal: journal ? wordsOf(journal) : '-',
      // What nobody asked for and nothing came of is a refusal of somebody's own making, and was refused.
      agrees: call ? difference === undefined : journal?.outcomes.length === 0 && !journal.admitted,
    });
  }
  return calls.sort((a, b) => a.path.localeCompare(b.path, 'en', { numeric: true }));
}

/** The first answer that the journal does not bear out. */
async function differenceOf(
  call: ToldCall,
  journal: JournaledCall | undefined,
  isCounted: Parameters<typeof compare>[2],
): Promise<CallAnswer<unknown> | undefined> {
  for (const answer of call.answers) {
    if (!(await isBorneOut(call, answer, journal, isCounted))) return answer;
  }
  const last = call.answers.at(-1);
  const asOf = journal?.outcomes.filter(({ seq }) => seq <= (last?.seq ?? 0)).at(-1);
  // Told after it was recorded as done, and yet not told so.
  return last && last.kind !== 'done' && asOf?.kind === 'succeeded' ? last : undefined;
}

async function isBorneOut(
  call: ToldCall,
  answer: CallAnswer<unknown>,
  journal: JournaledCall | undefined,
  isCounted: Parameters<typeof compare>[2],
): Promise<boolean> {
  if (answer.kind === 'done') {
    const match = journal?.outcomes.some(
      ({ kind, digest }) => kind === 'succeeded' && digest === answer.digest,
    );
    return match === true && journal?.admitted === true;
  }
  const { kind, rule } = answer.refusal;
  if (call.activity === 'undoCall' && Object.hasOwn(NOT_UNDONE, rule))
    return journal?.outcomes.every((outcome) => outcome.kind !== 'succeeded') ?? true;
  if (journal?.outcomes.some((outcome) => outcome.kind === kind || outcome.kind === 'any')) return true;
  if (journal?.refused.some((refused) => refused.kind === kind && refused.rule === rule)) return true;
  // An undo that waits for its write's own review was told the write's refusal.
  if (call.activity === 'undoCall' && answer.review) return true;
  return await isCounted({ kind, rule });
}

/** The first five alike of a minute are journaled one by one, later ones counted: storage/migrations/0004_ledger_steps.sql. */
const JOURNALED_OF_A_FLOOD = 5;

async function isFlood(entries: AsyncIterable<JournalEntry>, kind: string, rule: string): Promise<boolean> {
  let alike = 0;
  for await (const { facts } of entries) {
    const read = JSON.parse(facts) as { kind: string; refusal?: string; rule?: string };
    if (read.kind === 'refused' && read.refusal === kind && read.rule === rule) alike += 1;
    if (alike >= JOURNALED_OF_A_FLOOD) return true;
  }
  return false;
}

const short = (digest: string | null): string => (digest === null ? '' : ` ${digest.slice(0, 12)}`);

const inWords = (answer: CallAnswer<unknown>): string =>
  answer.kind === 'done' ? `done${short(answer.digest)}` : `${answer.kind} (${answer.refusal.rule})`;

function wordsOf({ outcomes, refused, admitted }: JournaledCall): string {
  const last = outcomes.at(-1);
  if (last) return last.kind === 'succeeded' ? `done${short(last.digest)}` : last.kind;
  const refusal = refused.at(-1);
  if (refusal) return `${refusal.kind} (${refusal.rule})`;
  return admitted ? 'let in, no outcome' : '-';
}
