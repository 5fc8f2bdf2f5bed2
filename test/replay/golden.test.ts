import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  bundleWorkflowCode,
  DefaultLogger,
  makeTelemetryFilterString,
  Runtime,
  Worker,
  type WorkflowBundleOption,
} from '@temporalio/worker';
import { RUN_STATES, STOP_REASONS } from '../../contracts/states';
import { PATCHES } from '../../workflows/patches';
import { freshRuntime } from '../support/sdk-runtime';
import { testTemporal } from '../support/shared-temporal';
import { goldenHistories, HISTORIES, historyToText, type Golden } from './history-json';
import { shownBy } from './shown';

const root = path.join(__dirname, '..', '..');
const golden = goldenHistories();

beforeAll(() =>
  freshRuntime({
    logger: new DefaultLogger('ERROR'),
    shutdownSignals: [],
    telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: 'ERROR' }), forward: {} } },
  }),
);

afterAll(() => Runtime.instance().shutdown());

/** Replays each against the bundle; answers the error of each that does not. */
async function replay(
  workflowBundle: WorkflowBundleOption,
  histories: readonly Golden[],
): Promise<Map<string, Error>> {
  const failed = new Map<string, Error>();
  const results = Worker.runReplayHistories(
    {
      workflowBundle,
      dataConverter: { payloadConverterPath: require.resolve('../../workflows/payload-converter') },
    },
    histories.map(({ file, history }) => ({ workflowId: file, history })),
  );
  for await (const { workflowId, error } of results) if (error) failed.set(workflowId, error);
  return failed;
}

test('O3 every golden history, of this version and of those before it, replays against today’s workflows', async () => {
  expect(golden.length).toBeGreaterThan(20);
  const failed = await replay({ codePath: testTemporal().bundlePath }, golden);
  expect([...failed].map(([file, error]) => `${file}: ${error.message}`)).toEqual([]);
});

/** Paths from the root of a machine's file system that software and people live under, and drives of Windows. */
const MACHINE_PATH =
  /(?:^|[^\w./-])(?:file:\/\/[^\s"']*|\/(?:work|tmp|home|root|usr|opt|var|srv|mnt|etc|app|builds?|private|workspaces?|Users|Volumes)\/[^\s"':)]*|[A-Za-z]:\\\w[^\s"']*)/g;

/** The paths in the text, and in what it has in base64. */
function machinePaths(text: string): string[] {
  const payloads = [...text.matchAll(/"data": ?"([A-Za-z0-9+/=]+)"/g)].map(([, data = '']) =>
    Buffer.from(data, 'base64').toString('utf8'),
  );
  return [text, ...payloads].flatMap((part) => part.match(MACHINE_PATH) ?? []);
}

test('O3 no golden history holds a path of the machine that recorded it, and the recorder keeps none', async () => {
  for (const { file } of golden)
    expect([file, machinePaths(await readFile(path.join(HISTORIES, file), 'utf8'))]).toEqual([file, []]);
  const failed = {
    eventId: 1,
    activityTaskFailedEventAttributes: {
      failure: { message: 'kept', stackTrace: 'at /home/me/x.ts', cause: { stackTrace: 'at /tmp/y.ts:1' } },
    },
  };
  const recorded = historyToText({ events: [failed] } as never);
  expect(recorded).toContain('kept');
  expect(machinePaths(recorded)).toEqual([]);
  // It does find them, where they are.
  const seen = JSON.stringify({
    a: 'at /tmp/y.ts:1',
    data: Buffer.from('(/home/me/x.ts:2)').toString('base64'),
  });
  expect(machinePaths(seen)).toHaveLength(2);
});

/** What is in no history, and why not: it cannot happen yet. */
const NOT_YET = {
  states: {
    queued: 'runs enter at once until concurrent runs are limited',
    provider_degraded:
      'a system that is down is tried again in place; nothing answers yet how long it will be',
  },
  stopReasons: {},
} as const;

test('O3 every run state and every stop reason that can happen is in a golden history', () => {
  const shown = golden
    .filter(({ workflow }) => workflow === 'agentRun')
    .map(({ history }) => shownBy(history));
  const inSome = <T>(all: readonly (readonly T[])[]): T[] => [...new Set(all.flat())].sort();
  const possible = (table: object, notYet: object): string[] =>
    Object.keys(table)
      .filter((name) => !Object.hasOwn(notYet, name))
      .sort();
  expect(inSome(shown.map(({ states }) => states))).toEqual(possible(RUN_STATES, NOT_YET.states));
  expect(inSome(shown.map(({ stopReasons }) => stopReasons))).toEqual(
    possible(STOP_REASONS, NOT_YET.stopReasons),
  );
});

test('O3 every change of commands is gated by an id of the patch registry, and each id there is used', async () => {
  const folder = path.join(root, 'workflows');
  const files = (await readdir(folder)).filter((file) => file !== 'patches.ts');
  const texts = await Promise.all(files.map((file) => readFile(path.join(folder, file), 'utf8')));
  const used = texts.flatMap((text) => [...text.matchAll(/\bchanged\(\s*(.*?)\s*\)/g)].map(([, id]) => id));
  expect([...new Set(used)].sort()).toEqual(
    Object.keys(PATCHES)
      .map((id) => `'${id}'`)
      .sort(),
  );
  for (const text of texts) expect(text).not.toMatch(/\b(patched|deprecatePatch)\b/);
});

interface Edit {
  readonly file: string;
  readonly text: string;
  readonly becomes: string;
}

/**
 * Edits that an open workflow would not survive, as texts of the workflows and what becomes of them. A bundle takes seconds, so
 * edits share one where they break histories of different workflows, by which they are told apart.
 */
const EDITED: Record<string, Readonly<Record<string, Edit>>> = {
  nothing: {},
  'an activity more': {
    agentRun: {
      file: 'agent-run.ts',
      text: '  const { continuedFromExecutionRunId } = workflowInfo();\n',
      becomes: `  const { continuedFromExecutionRunId } = workflowInfo();
  await lifecycle('one more').beginUndo({ reason: 'failed' });\n`,
    },
  },
  'a wait without its timer, and a change without its patch': {
    agentRun: {
      file: 'waits.ts',
      text: 'await condition(() => view.wakeUps > seen, wait);',
      becomes: 'await condition(() => view.wakeUps > seen);',
    },
    platformSweep: { file: 'platform-sweep.ts', text: "changed('sweep-follow-ups')", becomes: 'true' },
  },
};

test('O3 an incompatible edit does not pass: an activity more, a timer less, a change without its patch', async () => {
  const broken: Record<string, string[]> = {};
  for (const [name, edits] of Object.entries(EDITED)) {
    const failed = await replay(await bundleWith(Object.values(edits)), golden);
    broken[name] = Object.keys(edits).filter((workflow) =>
      golden.some(
        (one) => one.workflow === workflow && failed.get(one.file)?.name === 'DeterminismViolationError',
      ),
    );
    // The unchanged copy passes whole, so it is the edits that the others fail by.
    if (name === 'nothing') expect([...failed.keys()]).toEqual([]);
  }
  expect(broken).toEqual(
    Object.fromEntries(Object.entries(EDITED).map(([name, edits]) => [name, Object.keys(edits)])),
  );
}, 400_000);

/** Bundles a copy of the workflows with the edits made. */
async function bundleWith(edits: readonly Edit[]): Promise<WorkflowBundleOption> {
  const copy = await mkdtemp(path.join(tmpdir(), 'bulkhead-edited-'));
  try {
    for (const folder of ['workflows', 'contracts'])
      await cp(path.join(root, folder), path.join(copy, folder), { recursive: true });
    await symlink(path.join(root, 'node_modules'), path.join(copy, 'node_modules'));
    for (const edit of edits) {
      const file = path.join(copy, 'workflows', edit.file);
      const text = await readFile(file, 'utf8');
      expect(text.split(edit.text)).toHaveLength(2);
      await writeFile(
        file,
        text.replace(edit.text, () => edit.becomes),
      );
    }
    return await bundleWorkflowCode({
      workflowsPath: path.join(copy, 'workflows', 'index.ts'),
      workflowInterceptorModules: [path.join(copy, 'workflows', 'interceptors.ts')],
      payloadConverterPath: path.join(copy, 'workflows', 'payload-converter.ts'),
      logger: new DefaultLogger('ERROR'),
    });
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}
