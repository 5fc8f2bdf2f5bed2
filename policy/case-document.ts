import { z } from 'zod';
import { Duration } from '../contracts/duration';
import { Principal, Target } from '../contracts/envelope';
import { ActionName, AgentId, Environment, SystemName, WorkspaceId } from '../contracts/ids';
import { type Mistake, orderMistakes, quote } from './mistakes';
import { schemaMistakes } from './schema-mistakes';
import { type Locate, readYaml } from './yaml-text';

const MAX_CASES = 2_000;

const DocumentName = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,63}$/, 'a name is 1 to 64 of a-z, 0-9, _ and -, a letter first');
/** A host, with scheme and port where they matter. */
const Host = z.string().min(1).max(300);
const Model = z.string().regex(/^[a-z][a-z0-9_-]{0,39}\/[A-Za-z0-9._-]{1,100}$/, 'a model is provider/model');
const Fact = z.union([z.string(), z.int(), z.boolean()], {
  error: 'a fact is a string, an integer or a boolean',
});

const RuleName = z.string().min(1).max(100);
const RoleList = z.array(z.string().min(1).max(100)).min(1);

/** What a call comes to, as a case says it. */
const Expected = z.strictObject({
  outcome: z.enum(['allow', 'approve', 'suggest', 'deny']),
  /** Every rule that decides it, in any order; `default-deny` where none does. */
  rules: z.array(RuleName).min(1).max(50),
  /** Of `approve` and `suggest`: who may let it happen. What is left out is not compared. */
  approvers: z
    .strictObject({
      /** One list, or a list for each rule that asks. */
      roles: z.union([RoleList.transform((list) => [list]), z.array(RoleList).min(1)]).optional(),
      expiresAfter: Duration.optional(),
      notRequester: z.boolean().optional(),
    })
    .optional(),
});
export type Expected = z.infer<typeof Expected>;

/** One call and what policy must say of it. What is left out is `given`'s, or as ordinary as can be. */
const CaseDocument = z.strictObject({
  name: z.string().min(1).max(200),
  agent: AgentId.optional(),
  /** Of an agent that the app does not have, or not yet: what will it be refused? */
  agentClass: z
    .string()
    .regex(/^[a-z][a-z0-9_]{0,39}$/, 'an agent class is 1 to 40 of a-z, 0-9 and _, a letter first')
    .optional(),
  action: ActionName,
  args: z.record(z.string(), z.unknown()).default({}),
  workspace: WorkspaceId.optional(),
  environment: Environment.optional(),
  /** Where the tenant's connection leads, if not where `given` says. */
  destination: Host.optional(),
  /** Of a model call, if it is not the agent's own. */
  model: Model.optional(),
  /** What the calls before it have set. */
  facts: z.record(z.string(), Fact).default({}),
  /** Classes of what the run has read; those of the arguments come from the action. */
  dataClasses: z.array(z.string().min(1).max(40)).max(100).default([]),
  requester: Principal.optional(),
  target: Target.optional(),
  /** Whether it undoes an earlier call of the run. */
  undo: z.boolean().default(false),
  expect: Expected,
});
export type CaseDocument = z.infer<typeof CaseDocument>;

/** A tenant's own tests of one profile. */
const PolicyCases = z.strictObject({
  apiVersion: z.literal('bulkhead/v1'),
  kind: z.literal('PolicyCases'),
  profile: DocumentName,
  /** What holds for every case that does not say otherwise. */
  given: z
    .strictObject({
      agent: AgentId.optional(),
      workspace: WorkspaceId.optional(),
      environment: Environment.optional(),
      requester: Principal.optional(),
      /** Host by system, as the tenant's connections have them. */
      connections: z.record(SystemName, Host).default({}),
    })
    .prefault({}),
  cases: z
    .array(CaseDocument)
    .max(MAX_CASES)
    .refine((list) => list.length > 0, {
      message: 'there is no case in it',
      params: { remedy: 'write one: a name, an action and what to expect' },
    }),
});
export type PolicyCases = z.infer<typeof PolicyCases>;

/** A case file that is right in its form, and where its parts stand. */
export interface ReadCases {
  readonly document: PolicyCases;
  readonly locate: Locate;
}

/** Reads a case file: one YAML document of kind PolicyCases. All its mistakes of form together; never throws on the text. */
export function readCases(text: string): { ok: true; read: ReadCases } | { ok: false; mistakes: Mistake[] } {
  const { documents, mistakes } = readYaml(text);
  const refused = (more: Mistake[]) => ({
    ok: false as const,
    mistakes: orderMistakes([...mistakes, ...more]),
  });
  const [first, second] = documents;
  if (!first) return refused([]);
  if (second) {
    const remedy = 'put each into a file of its own';
    return refused([{ ...second.locate([]), path: '', message: 'a case file is one document', remedy }]);
  }
  const { raw, locate } = first;
  const parsed = PolicyCases.safeParse(raw);
  if (!parsed.success) return refused(schemaMistakes(parsed.error, { schema: PolicyCases, raw, locate }));
  const repeated = repeatedNames(parsed.data.cases, locate);
  if (mistakes.length + repeated.length > 0) return refused(repeated);
  return { ok: true, read: { document: parsed.data, locate } };
}

/** Failures are told by name. */
function repeatedNames(cases: readonly CaseDocument[], locate: Locate): Mistake[] {
  const seen = new Set<string>();
  return cases.flatMap(({ name }, index) => {
    if (!seen.has(name)) {
      seen.add(name);
      return [];
    }
    const place = { ...locate(['cases', index, 'name']), path: `cases[${index}].name` };
    return [{ ...place, message: `two cases are called ${quote(name)}`, remedy: 'rename one' }];
  });
}
