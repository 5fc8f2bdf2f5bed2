import { PLAIN_ACME } from '../support/tenants';
import { createCliWorld, type CliWorld } from './world';

/** A journal whose numbers have a gap: a restore of the database took entries with it, and the recovery says so. */

let world: CliWorld;
let gap: { first: number; last: number };
beforeAll(async () => {
  world = await createCliWorld();
  await world.stack.apply(PLAIN_ACME);
  await world.stack.run('acme', 'go');
  const { recovery } = world.stack.store('acme');
  const seq = ((await world.stack.journal('acme')).at(-1)?.seq ?? 0) + 4;
  await recovery.markRewound({ seq, hash: null, acknowledged: seq, by: 'test' });
  // That it was noticed is an entry, too.
  gap = { first: ((await world.stack.journal('acme')).at(-1)?.seq ?? 0) + 1, last: seq };
  await recovery.begin({ highestSeq: seq, actor: 'ops' });
  await recovery.finish({ actor: 'ops', counts: {} });
});
afterAll(() => world.close());

const verify = (...more: string[]) => world.run(['journal', 'verify', '--tenant', 'acme', ...more]);
const headAt = async (seq: number): Promise<string> =>
  `${seq}:${(await world.stack.journal('acme')).find((entry) => entry.seq === seq)?.hash}`;

test('O2 O8 after a recovery every head that is in the chain is found by its number, and what is missing is told', async () => {
  const entries = await world.stack.journal('acme');
  // The gap is there: from it on, no entry stands at its number.
  expect(entries.at(-1)?.seq).toBe(entries.length + gap.last - gap.first + 1);
  for (const { seq } of entries)
    expect(await verify('--head', await headAt(seq))).toMatchObject({
      code: 0,
      out: expect.stringMatching(
        new RegExp(`every link holds[^]*numbers ${gap.first} to ${gap.last} went with a restore`),
      ),
    });
  const { code, out } = await verify('-o', 'json');
  expect({ code, answer: JSON.parse(out) }).toMatchObject({
    code: 0,
    answer: { holds: true, broken: null, lost: [gap], entries: entries.length },
  });
});

test('O2 O8 a head that went with the restore, or is another’s, is not in the chain, and why is said', async () => {
  const hash = '0'.repeat(64);
  expect(await verify('--head', `${gap.first}:${hash}`)).toMatchObject({
    code: 1,
    out: expect.stringMatching(/kept elsewhere, is not in it \(numbers \d+ to \d+ went with a restore/),
  });
  expect(await verify('--head', `1:${hash}`)).toMatchObject({
    code: 1,
    out: expect.stringContaining('the head 1, kept elsewhere, is not in it\n'),
  });
});
