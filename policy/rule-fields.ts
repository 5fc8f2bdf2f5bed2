import { z } from 'zod';
import { APPROVAL_RULES } from '../contracts/approvals';
import { Duration, milliseconds } from '../contracts/duration';
import { Role, WorkspaceId } from '../contracts/ids';
import { REVIEW_ABANDONED } from '../contracts/reviews';
import { DestinationGlob } from './destinations';
import { ActionGlob, AgentGlob } from './globs';

/** What decisions name where no rule decided. No rule may take one of these as its id. */
export const DEFAULT_DENY = 'default-deny';
export const EVALUATION_ERROR = 'evaluation-error';
/** What decisions name where rules let a call through, and no entry of `secrets` gives its agent the credential. */
export const SECRET_NOT_GRANTED = 'secret-not-granted';
const OURS: readonly string[] = [
  DEFAULT_DENY,
  EVALUATION_ERROR,
  SECRET_NOT_GRANTED,
  ...Object.values(APPROVAL_RULES),
  REVIEW_ABANDONED,
];

export const MAX_LIST = 200;

const RuleId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, 'a rule id is 1 to 64 of a-z, 0-9, _ and -')
  .refine((id) => !OURS.includes(id), 'decisions use this id themselves: choose another');

/** A list that may be left out, but not left empty: nobody can tell whether "none" was meant or "all". */
export const notEmpty = <T extends z.ZodType>(item: T, remedy: string) =>
  z
    .array(item)
    .max(MAX_LIST)
    .refine((list) => list.length > 0, { message: 'an empty list matches nothing', params: { remedy } });

/** A Cedar expression. Longer ones are split into rules; the limits of nesting are in `expressions.ts`. */
const Expression = z
  .string({
    error: ({ code }) =>
      code === 'invalid_type'
        ? 'write a Cedar expression, in quotes where YAML would read it as something else'
        : undefined,
  })
  .min(1)
  .max(2_000);

/** What kind of data something is, as an action's author declares it: `pii`, `financial`. */
export const DataClass = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,39}$/, 'a data class is 1 to 40 of a-z, 0-9 and _, a letter first');
/** `dataClasses` of a rule or of an entry of `models.allow`. */
export const DataClasses = notEmpty(DataClass, 'name classes, or leave `dataClasses` out');

const SHORTEST_MS = 1_000;
const LONGEST_MS = 30 * 86_400_000;
const isBetween = (duration: string): boolean => {
  const after = milliseconds(duration);
  return after >= SHORTEST_MS && after <= LONGEST_MS;
};

/** Who may approve, or turn a suggestion into a call: in roles of the tokens of those people. */
export const Approvers = z.strictObject({
  roles: notEmpty(Role, 'name the roles that may approve'),
  expiresAfter: Duration.refine(isBetween, {
    message: 'an approval expires after 1s to 30d',
    params: { remedy: 'write a time between these, as in 24h' },
    when: ({ issues }) => issues.length === 0,
  }).default('24h'),
  /** Whether the principal that started the run may not approve its calls. */
  notRequester: z.boolean().default(true),
});
export type Approvers = z.infer<typeof Approvers>;

const EFFECTS = ['allow', 'approve', 'suggest', 'forbid'] as const;
export type RuleEffect = (typeof EFFECTS)[number];

const RuleFields = z.strictObject({
  id: RuleId,
  effect: z.enum(EFFECTS),
  agents: notEmpty(AgentGlob, 'name agents, or leave `agents` out for all of them').optional(),
  actions: notEmpty(ActionGlob, 'name actions, or write ["*"] for all of them').optional(),
  workspaces: notEmpty(WorkspaceId, 'name workspaces, or leave `workspaces` out for all of them').optional(),
  destinations: notEmpty(DestinationGlob, 'name hosts, or leave `destinations` out').optional(),
  exceptDestinations: notEmpty(DestinationGlob, 'name hosts, or leave `exceptDestinations` out').optional(),
  dataClasses: DataClasses.optional(),
  when: Expression.optional(),
  unless: Expression.optional(),
  approvers: Approvers.optional(),
});

type Written = Readonly<Record<string, unknown>>;
const ofEffect = (rule: Written, ...effects: RuleEffect[]): boolean =>
  effects.some((effect) => effect === rule['effect']);

/** What fields of a rule ask of one another, beside what each of them is. */
const TOGETHER: { wrong: (rule: Written) => boolean; field: string; message: string; remedy: string }[] = [
  ...(['allow', 'approve', 'suggest'] as const).map((effect) => ({
    wrong: (rule: Written) => ofEffect(rule, effect) && !('actions' in rule),
    field: 'actions',
    message: `${effect === 'suggest' ? 'a' : 'an'} ${effect} rule names its actions`,
    remedy: `add \`actions\`; to ${effect} every action, write actions: ["*"]`,
  })),
  {
    wrong: (rule) => ofEffect(rule, 'approve') && !('approvers' in rule),
    field: 'approvers',
    message: 'an approve rule names who may approve',
    remedy: 'add approvers: { roles: [...] }',
  },
  {
    wrong: (rule) => ofEffect(rule, 'allow', 'forbid') && 'approvers' in rule,
    field: 'approvers',
    message: 'only an approve or suggest rule has approvers',
    remedy: 'remove it, or write effect: approve',
  },
  {
    wrong: (rule) => ofEffect(rule, 'allow', 'approve', 'suggest') && 'exceptDestinations' in rule,
    field: 'exceptDestinations',
    message: 'only a forbid rule has exceptDestinations',
    remedy: 'name the hosts it is for in `destinations`, or write effect: forbid',
  },
];

/**
 * A rule. What it leaves out does not narrow it: no `agents` means every agent, no `actions` (forbid only) every
 * action and model call, no `destinations` any destination or none, no `dataClasses` any data. Everything it names
 * must hold at once.
 */
export const Rule = TOGETHER.reduce(
  (schema, { wrong, field, message, remedy }) =>
    schema.refine((rule) => !isMapping(rule) || !wrong(rule), {
      // Also asked where other fields are wrong, so that every mistake is told at once.
      when: () => true,
      path: [field],
      message,
      params: { remedy },
    }),
  RuleFields,
);
export type Rule = z.infer<typeof Rule>;

/** A rule that may be wrong, without its wrong fields; named by its place, and a forbid, where it does not say. */
export function rightFields(written: Written, index: number): Rule {
  const right = Object.entries(RuleFields.shape).flatMap(([name, schema]) => {
    const field = schema.safeParse(written[name]);
    return field.success && field.data !== undefined ? [[name, field.data] as const] : [];
  });
  return { id: `rules[${index}]`, effect: 'forbid', ...Object.fromEntries(right) };
}

export const isMapping = (value: unknown): value is Written =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
