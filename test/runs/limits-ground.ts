import type { Run } from '../../client/run';
import { createCliWorld, type CliWorld } from '../cli/world';
import { plays, startModel, type Move, type Script } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';
import { call } from './desk';

/** A limit that is raised is told to whoever waits for it at once; the bound is for a machine with no time. */
export const SOON_MS = 5_000;
/** How long a run here waits for limits. */
const MAX_WAIT_MS = 45_000;

export const note = (text: string): Move => call(['note.write', { recordId: 'r1', text }]);
export const pay = (amountCents: number): Move => call(['payment.send', { recordId: 'r1', amountCents }]);

/** What a tenant's documents say of its quota. */
export type Quota = Partial<Parameters<typeof readyTenant>[1]>;

/** A gate that holds back a model's answer until it is opened. */
export function gate(): { held: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const held = new Promise<void>((resolve) => (open = resolve));
  return { held, open };
}

/** Tenants that meet their limits through the public surface, and are shown and given more: `bulkhead quota set`. */
export class LimitsGround {
  private constructor(
    readonly world: CliWorld,
    /** The system outside, which counts what was done. */
    readonly outside: Outside,
    private readonly tenantAt: (name: string, quota: Quota) => Promise<void>,
    /** What the model does in a run, by the input of it. */
    private readonly scripts: Map<string, Script>,
    readonly close: () => Promise<void>,
  ) {}

  static async open(): Promise<LimitsGround> {
    const scripts = new Map<string, Script>();
    const script: Script = (seen) =>
      scripts.get(seen.input.replace(/[^]*?(input-\d{4})[^]*/, '$1'))?.(seen) ?? {
        say: `unknown ${seen.input}`,
      };
    const [world, outside, model] = await Promise.all([
      createCliWorld({ bounds: { maxWaitMs: MAX_WAIT_MS } }),
      startOutside('acct'),
      startModel(script),
    ]);
    return new LimitsGround(
      world,
      outside,
      (name, quota) => readyTenant(world.stack, { name, keeper: outside.url, models: model.url, ...quota }),
      scripts,
      async () => {
        await world.close();
        await Promise.all([outside.close(), model.close()]);
      },
    );
  }

  tenant(name: string, quota: Quota): Promise<void> {
    return this.tenantAt(name, quota);
  }

  /** Begins a run that plays these moves. */
  async begin(name: string, moves: Move[], hold?: Promise<void>): Promise<Run> {
    const input = `input-${String(this.scripts.size).padStart(4, '0')}`;
    const script = plays(...moves);
    this.scripts.set(input, async (seen) => {
      await hold;
      return await script(seen);
    });
    return await this.world.stack.client.startRun({
      ...{ token: await this.world.stack.token(name), agent: 'test_worker', input },
      target: { system: 'keeper', recordId: 'r1' },
    });
  }

  /** Once the run says that it waits for this limit, what it says. */
  waitsFor(run: Run, rule: string) {
    return until(
      `a run that waits for ${rule}`,
      async () => {
        const why = await run.explain();
        return why.waitsFor?.rule === rule ? why : undefined;
      },
      40_000,
    );
  }

  async quotaSet(name: string, ...args: string[]): Promise<void> {
    const { code, said } = await this.world.run(['quota', 'set', name, ...args, '-o', 'json']);
    expect({ code, said }).toEqual({ code: 0, said: '' });
  }

  async layerOf(name: string, of: string, limit: string) {
    const { layers } = await this.world.stack.client.quotas({ token: await this.world.stack.token(name) });
    const found = layers.find((each) => each.of === of && each.limit === limit);
    if (!found) throw new Error(`no layer ${of} ${limit}`);
    return found;
  }
}
