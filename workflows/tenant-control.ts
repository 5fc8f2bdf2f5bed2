import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  isCancellation,
  log,
  setCurrentDetails,
  setDefaultSignalHandler,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { QUERIES, SIGNALS, type ControlCommand, type ControlState } from '../contracts/workflow-io';
import { control } from './activities';
import { readCommand } from './control-command';

export const kill = defineSignal<[unknown?]>(SIGNALS.kill);
export const release = defineSignal<[unknown?]>(SIGNALS.release);
export const killUpdate = defineUpdate<ControlState, [unknown?]>(SIGNALS.kill);
export const releaseUpdate = defineUpdate<ControlState, [unknown?]>(SIGNALS.release);
export const controlState = defineQuery<ControlShown>(QUERIES.controlState);

export interface ControlShown extends ControlState {
  /** Commands taken but not applied yet. */
  readonly waiting: number;
  /** Signals that could not be read, or asked for what does not exist; each was dropped. */
  readonly malformed: number;
}

interface Waiting {
  readonly command: ControlCommand;
  readonly answer: { gives(state: ControlState): void; refuses(why: ApplicationFailure): void } | null;
}

/** Well below the server's limits of signals and updates per run, so that a flood never closes the switch. */
const MESSAGES_PER_RUN = 500;

/**
 * The switch of one tenant (promise O1), started when the tenant is created and kept alive by the sweep. It applies its
 * whole inbox in one activity, kills first: the fence is raised in the database, then calls are waited for
 * (`containedAt`), then runs are closed (`drainedAt`). What is in force is read from the database at start, never from
 * history; so a control that was terminated in the middle of a kill goes on where it was.
 */
export async function tenantControl(): Promise<void> {
  const inbox: Waiting[] = [];
  let state: ControlState | undefined;
  let messages = 0;
  let malformed = 0;

  const take = (op: ControlCommand['op'], argument: unknown, answer: Waiting['answer']): void => {
    messages += 1;
    const command = readCommand(op, argument);
    if (typeof command !== 'string') inbox.push({ command, answer });
    else if (answer) throw ApplicationFailure.nonRetryable(command, 'ContractBroken');
    else malformed += 1;
  };
  const update = (op: ControlCommand['op']) => (argument?: unknown) =>
    new Promise<ControlState>((gives, refuses) => {
      take(op, argument, { gives, refuses });
    });
  const validator =
    (op: ControlCommand['op']) =>
    (argument?: unknown): void => {
      const command = readCommand(op, argument);
      if (typeof command === 'string') throw ApplicationFailure.nonRetryable(command, 'ContractBroken');
    };
  // The default handler first: signals that came before this code ran are handed out per handler as each is set, which
  // would put every kill before every release. This way they come in the order in which they were sent.
  setDefaultSignalHandler((name, argument) => {
    if (name === SIGNALS.kill || name === SIGNALS.release) take(name, argument, null);
    else malformed += 1;
  });
  setHandler(kill, (argument) => take('kill', argument, null));
  setHandler(release, (argument) => take('release', argument, null));
  setHandler(killUpdate, update('kill'), { validator: validator('kill') });
  setHandler(releaseUpdate, update('release'), { validator: validator('release') });
  setHandler(controlState, () => ({ ...(state ?? UNKNOWN), waiting: inbox.length, malformed }));

  let emptying: { fenceEpoch: number; scope: CancellationScope; done: boolean } | undefined;
  const show = (next: ControlState): ControlState => {
    // What an act was told stays beside the fence that it concerns.
    const notes = next.notes ?? (next.fenceEpoch === state?.fenceEpoch ? state.notes : undefined);
    state = { ...next, ...(notes && { notes }) };
    setCurrentDetails(inWords(state));
    return next;
  };
  /**
   * Waits for calls, then for runs, beside new commands. A kill repeated under the same fence changes nothing about it, and
   * a release lets it finish: runs of before the fence stay killed, those accepted after it are spared by their epoch.
   */
  const empty = ({ mode, fenceEpoch, drainedAt }: ControlState): void => {
    if (mode !== 'killed' || drainedAt !== null) return;
    if (emptying?.fenceEpoch === fenceEpoch && !emptying.done) return;
    emptying?.scope.cancel();
    const mine = { fenceEpoch, scope: new CancellationScope(), done: false };
    emptying = mine;
    void mine.scope
      .run(async () => {
        show(await control('wait until no admitted call can act').awaitContained({ fenceEpoch }));
        show(await control('close every run of the tenant as killed').drainRuns({ fenceEpoch }));
      })
      .catch((error: unknown) => {
        // The switch itself must live on: a failure here is shown, and the next kill or start tries again.
        if (!isCancellation(error))
          log.error('the tenant is fenced but could not be emptied', { error: String(error) });
      })
      .finally(() => {
        mine.done = true;
      });
  };
  const idle = (): boolean => emptying === undefined || emptying.done;
  const full = (): boolean => workflowInfo().continueAsNewSuggested || messages > MESSAGES_PER_RUN;

  empty(show(await control('read what is in force').loadControl()));

  for (;;) {
    await condition(() => inbox.length > 0 || (full() && idle()));
    if (inbox.length > 0) {
      const taken = inbox.splice(0);
      const { refused = [], ...next } = await control(summary(taken)).applyControl({
        commands: taken.map(({ command }) => command),
      });
      const applied = show(next);
      empty(applied);
      for (const [at, { answer }] of taken.entries()) {
        const not = refused.find(({ index }) => index === at);
        if (!not) answer?.gives(applied);
        else if (answer) answer.refuses(ApplicationFailure.nonRetryable(not.why, 'ContractBroken'));
        else malformed += 1;
      }
    }
    if (full() && idle() && inbox.length === 0) {
      await condition(allHandlersFinished);
      if (inbox.length === 0) await continueAsNew<typeof tenantControl>();
    }
  }
}

const UNKNOWN: ControlState = {
  mode: 'unknown',
  fenceEpoch: 0,
  fencedAt: null,
  containedAt: null,
  drainedAt: null,
  reason: null,
  actor: null,
};

const summary = (taken: readonly Waiting[]): string =>
  `apply ${taken
    .slice(0, 5)
    .map(({ command }) => command.op)
    .join(', ')}${taken.length > 5 ? ` and ${taken.length - 5} more` : ''}`;

function inWords(state: ControlState): string {
  if (state.mode !== 'killed') return `**${state.mode}** — runs are accepted and calls admitted`;
  const at = (time: string | null): string => time ?? 'not yet';
  return [
    `**killed** — by ${state.actor ?? 'an operator'}: ${state.reason ?? 'no reason given'}`,
    `- fenced (no call admitted from then on): ${at(state.fencedAt)}`,
    `- contained (no call can act any more): ${at(state.containedAt)}`,
    `- drained (every run closed): ${at(state.drainedAt)}`,
    ...(state.notes ?? []),
  ].join('\n\n');
}
