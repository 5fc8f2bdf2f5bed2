import { compileProfile } from '../../policy/compile';
import { app, compiled, mistakesOf, profile, question } from './sample';

/** Milliseconds of this process's own work: what the neighbours on this machine do does not count. */
function worked(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

describe('U3 the work of a profile is bounded', () => {
  const rules = (count: number, rule: (index: number) => string): string =>
    profile(Array.from({ length: count }, (_, index) => `{ id: r${index}, effect: forbid, ${rule(index)} }`));
  const list = (count: number, name: (index: number) => string): string =>
    `[${Array.from({ length: count }, (_, index) => name(index)).join(', ')}]`;

  test.each<[string, (index: number) => string]>([
    ['agents', (rule) => `agents: ${list(7, (index) => `"*s*${rule}*${index}"`)}`],
    ['hosts', (rule) => `destinations: ${list(7, (index) => `h${rule}-${index}.example`)}`],
    ['excepted hosts', (rule) => `exceptDestinations: ${list(7, (index) => `"h${rule}-${index}.*"`)}`],
    ['classes', (rule) => `workspaces: [w${rule}], dataClasses: ${list(6, () => 'pii')}`],
  ])('U3 more names than a decision can look at quickly are refused: %s', (_, rule) => {
    expect(mistakesOf(rules(430, rule)).map(({ path, message }) => `${path}: ${message}`)).toContain(
      'rules: these rules name 3010 agents, actions, workspaces, hosts and classes, more than 3000',
    );
  });

  test('U3 conditions that would be checked for too long are refused, and not checked', () => {
    const when = `${'context.dataClasses.contains("pii") || '.repeat(4)}context.undo`;
    const wide = rules(400, (index) => `workspaces: [w${index}], when: '${when}'`);
    const spent = worked(() =>
      expect(mistakesOf(wide)).toEqual([
        expect.objectContaining({
          path: 'rules',
          message: expect.stringContaining('are too many') as string,
        }),
      ]),
    );
    expect(spent).toBeLessThan(3_000);
    const narrow = rules(400, (index) => `actions: [web.fetch], workspaces: [w${index}], when: '${when}'`);
    expect(compileProfile({ text: narrow, version: 1, ...app }).ok).toBe(true);
  });

  test('U3 the largest profiles that are accepted compile within seconds and decide within a tenth of one', () => {
    const largest = [
      rules(500, (rule) => `destinations: ${list(6, (index) => `"h${rule}-*a*z${index}"`)}`),
      rules(
        500,
        (rule) => `exceptDestinations: ${list(5, (index) => `b${rule}-${index}`)}, dataClasses: [financial]`,
      ),
      rules(490, (rule) => `workspaces: [w${rule}], when: '${'context.undo || '.repeat(6)}context.undo'`),
    ];
    for (const text of largest) {
      let policy = compiled(profile([]));
      expect(worked(() => (policy = compiled(text)))).toBeLessThan(5_000);
      const asked = question({ destination: 'a'.repeat(63), dataClasses: Array<string>(50).fill('public') });
      expect(policy.decide(asked).rules).toEqual(['default-deny']);
      expect(worked(() => Array.from({ length: 10 }, () => policy.decide(asked)))).toBeLessThan(1_000);
    }
  });
});
