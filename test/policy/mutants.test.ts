import { compileProfile } from '../../policy/compile';
import { runCases } from '../../policy/cases';
import { app, exampleCases, exampleProfile, TENANTS, type Tenant } from './example-cases';
import { type Json, type Mutant, mutantsOf, sameByConstruction } from './mutations';

/** What became of a tenant's mutants. */
function killed(tenant: Tenant): {
  killed: number;
  refused: number;
  same: number;
  survivors: Mutant[];
  operators: Set<string>;
} {
  const profile = JSON.parse(JSON.stringify(exampleProfile(tenant).document)) as Json;
  const cases = exampleCases(tenant);
  const tally = { killed: 0, refused: 0, same: 0, survivors: [] as Mutant[], operators: new Set<string>() };
  const own = compileProfile({ text: JSON.stringify(profile), version: 1, ...app });
  if (!own.ok || !runCases(own.policy, cases, app).every(({ passed }) => passed))
    throw new Error(`the cases of ${tenant} fail on its own policy: everything would look killed`);
  for (const mutant of mutantsOf(profile)) {
    // JSON is YAML.
    const compiled = compileProfile({ text: JSON.stringify(mutant.profile), version: 1, ...app });
    if (!compiled.ok) {
      tally.refused += 1;
      continue;
    }
    tally.operators.add(mutant.operator);
    if (runCases(compiled.policy, cases, app).some(({ passed }) => !passed)) tally.killed += 1;
    else if (sameByConstruction(profile, mutant)) tally.same += 1;
    else tally.survivors.push(mutant);
  }
  return tally;
}

const LEAST = 0.95;
jest.setTimeout(300_000);

test.each(TENANTS)(
  'P12 the hand-written cases of %s notice nearly every slip of the pen in its policy',
  (tenant) => {
    const found = killed(tenant);
    const judged = found.killed + found.survivors.length;
    const survivors = found.survivors.map(({ operator, what }) => `${operator}: ${what}`);
    process.stdout.write(
      [
        `${tenant}: ${found.killed} of ${judged} mutants killed; ${found.refused} more were refused by the compiler, ${found.same} decide the same by construction`,
        ...survivors.map((line) => `  survived: ${line}`),
        '',
      ].join('\n'),
    );
    expect(found.killed / judged).toBeGreaterThanOrEqual(LEAST);
    expect(judged).toBeGreaterThan(80);
  },
);
