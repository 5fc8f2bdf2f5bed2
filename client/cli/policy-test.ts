import type { Command } from 'commander';
import type { ApprovalTerms } from '../../contracts/policy-decision';
import { readCases } from '../../policy/case-document';
import { parseCases, runCases, type CaseResult } from '../../policy/cases';
import { formatMistakes } from '../../policy/documents';
import { textOf, verb, withRuntime, type Common } from './command';
import type { CliApp, CliContext } from './context';
import { EXIT, Exit } from './exit';
import { printFields, printRows } from './output';
import { candidatesOf, requireApp, type Candidate } from './policy-documents';

/** `bulkhead policy test`: a tenant's own cases, without a database. */
export function registerPolicyTest(group: Command, context: CliContext): void {
  verb(
    group,
    'test <policy> <cases...>',
    'ask a policy a tenant’s own cases; exit code 1 if it answers any of them otherwise',
    [
      'bulkhead policy test policies/regulated_support.yaml policies/regulated_support.cases.yaml',
      'bulkhead policy show --tenant acme | bulkhead policy test - examples/support-desk/tenants/acme.cases.yaml',
    ],
  ).action(async (policy: string, files: string[], options: Common) =>
    withRuntime(context, options, async (runtime) => {
      const app = await requireApp(runtime);
      const candidates = await candidatesOf(context, [policy], app);
      const results = await resultsOf(context, files, candidates, app);
      const failures = results.filter(({ passed }) => !passed).map(failureOf);
      const cases = results.length;
      if (options.output === 'json')
        printFields(context, 'json', { cases, failed: failures.length, failures }, {});
      else {
        if (failures.length > 0) {
          printRows(context, 'table', failures, COLUMNS, '');
          context.write('\n');
        }
        const wrong = failures.length === 0 ? 'all as expected' : `${failures.length} not as expected`;
        context.write(`${cases} ${cases === 1 ? 'case' : 'cases'}, ${wrong}\n`);
      }
      if (failures.length > 0) throw new Exit(EXIT.failed);
    }),
  );
}

interface Result extends CaseResult {
  readonly file: string;
}

/** All mistakes of all files are told before anything is asked. */
async function resultsOf(
  context: CliContext,
  files: readonly string[],
  candidates: readonly Candidate[],
  app: CliApp,
): Promise<Result[]> {
  let wrong = false;
  const results: Result[] = [];
  for (const file of files) {
    const text = await textOf(context, file);
    const form = readCases(text);
    const about = form.ok ? form.read.document.profile : undefined;
    const candidate = candidates.find(({ document }) => document.metadata.name === about) ?? candidates[0];
    if (!candidate) continue;
    const { metadata, environments } = candidate.document;
    const parsed = parseCases(text, { ...app, profile: metadata.name, environments });
    if (parsed.ok)
      results.push(...runCases(candidate.policy, parsed.cases, app).map((one) => ({ ...one, file })));
    else {
      wrong = true;
      context.say(formatMistakes(parsed.mistakes, file === '-' ? 'standard input' : file));
    }
  }
  if (wrong) throw new Exit(EXIT.failed);
  return results;
}

interface Failure {
  readonly file: string;
  readonly line: number;
  readonly name: string;
  readonly expected: object;
  readonly got: {
    outcome: string;
    rules: readonly string[];
    approval: ApprovalTerms | null;
    message: string;
  };
}

const failureOf = ({ file, case: { name, line, expected }, got }: Result): Failure => ({
  file,
  line,
  name,
  expected,
  got: { outcome: got.effect, rules: got.rules, approval: got.approval, message: got.message },
});

const COLUMNS: Record<string, (row: Failure) => unknown> = {
  CASE: (row) => `${row.file}:${row.line}`,
  NAME: (row) => row.name,
  EXPECTED: (row) => answer(row.expected),
  GOT: (row) => answer(row.got),
};

/** `approve large-refund, by finance`. */
function answer(said: {
  outcome?: string;
  rules?: readonly string[];
  approvers?: { roles?: readonly (readonly string[])[] };
  approval?: ApprovalTerms | null;
}): string {
  const roles = said.approvers?.roles ?? said.approval?.roles;
  const by = roles ? `, by ${roles.map((list) => list.join(' or ')).join(' and ')}` : '';
  return `${said.outcome} ${(said.rules ?? []).join(', ')}${by}`;
}
