import { compileProfile } from '../../policy/compile';
import { runCases } from '../../policy/cases';
import { app, exampleCases, exampleProfile, TENANTS } from './example-cases';

describe.each(TENANTS)('%s', (tenant) => {
  test('P12 its policy says what its own cases say, in outcome and in the rules that decide', () => {
    const compiled = compileProfile({ text: exampleProfile(tenant).text, version: 1, ...app });
    if (!compiled.ok) throw new Error('the policy has mistakes');
    const results = runCases(compiled.policy, exampleCases(tenant), app);
    expect(
      results.flatMap(({ passed, case: { name, line, expected }, got }) =>
        passed ? [] : [{ name, line, expected, got }],
      ),
    ).toEqual([]);
    expect(results.length).toBeGreaterThan(30);
  });
});
