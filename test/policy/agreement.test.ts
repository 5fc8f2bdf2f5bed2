import fc from 'fast-check';
import type { CompiledPolicy, PolicyRequest } from '../../contracts/policy-decision';
import { compileProfile } from '../../policy/compile';
import { type DrawnProfile, type DrawnRule, drawProfile, drawRequest, profileText } from './drawn';
import { Draw } from './drawn-expressions';
import { says, verdict } from './independent';
import { app } from './sample';

interface Accepted {
  readonly policy: CompiledPolicy;
  /** As drawn, without what was refused: what the evaluator judges by. */
  readonly profile: DrawnProfile;
  /** Refused since they can never apply: not one may ever hold. */
  readonly idle: readonly DrawnRule[];
  /** Refused since an earlier rule says as much: wherever it holds, that one holds. */
  readonly redundant: readonly { readonly rule: DrawnRule; readonly earlier: DrawnRule | undefined }[];
  /** Refused for names that their actions do not have. */
  readonly misnamed: number;
}

/** Compiles a profile without the rules that are refused, each for a reason that is checked on the way. */
function accepted(drawn: DrawnProfile): Accepted {
  const idle: DrawnRule[] = [];
  const redundant: { rule: DrawnRule; earlier: DrawnRule | undefined }[] = [];
  let [rules, misnamed] = [drawn.rules, 0];
  for (;;) {
    const profile = { ...drawn, rules };
    const result = compileProfile({ text: profileText(profile), version: 1, ...app });
    if (result.ok) {
      return {
        policy: result.policy,
        profile,
        idle,
        redundant,
        misnamed,
      };
    }
    const out = new Set<DrawnRule>();
    for (const { path, message } of result.mistakes) {
      const rule = rules[Number(/^rules\[(\d+)\]/.exec(path)?.[1])];
      if (!rule) throw new Error(`${path}: ${message}\n${profileText(profile)}`);
      if (out.has(rule)) continue;
      out.add(rule);
      const earlier = /the rule "(\S+)" on line/.exec(message)?.[1];
      if (earlier) redundant.push({ rule, earlier: rules.find(({ id }) => id === earlier) });
      else if (/can never apply|cannot be suggested/.test(message)) idle.push(rule);
      else if (message.startsWith('there is no context.args')) misnamed += 1;
      else throw new Error(`${path}: ${message}\n${profileText(profile)}`);
    }
    rules = rules.filter((rule) => !out.has(rule));
  }
}

function compare({ policy, profile, idle, redundant }: Accepted, request: PolicyRequest): string {
  const { effect, rules, approval } = policy.decide(request);
  const [said, wanted] = [{ effect, rules, approval }, verdict(profile, request)].map((one) =>
    JSON.stringify(one),
  );
  const more = (): string => `\n${profileText(profile)}\n${JSON.stringify(request)}`;
  if (said !== wanted) throw new Error(`${said}, not ${wanted}:${more()}`);
  const kind = rules[0] === 'evaluation-error' ? 'error' : effect;
  // A question that could not be put, so that no rule was asked.
  if (request.environment !== 'prod' || (kind === 'error' && rules.length === 1)) return kind;
  for (const rule of idle)
    if (says(rule, request) === true) throw new Error(`${rule.id} is not idle:${more()}`);
  for (const { rule, earlier } of redundant) {
    if (says(rule, request) === true && !(earlier && says(earlier, request)))
      throw new Error(`${rule.id} is not redundant:${more()}`);
  }
  return kind;
}

const PROFILES = 200;
/** Of each profile. A thousand in the long run: 200,000 decisions. */
const QUESTIONS = Number(process.env['BULKHEAD_AGREEMENT_QUESTIONS'] ?? 200);

test('P1 P2 P3 P4 P5 P7 P8 random decisions agree with an independent evaluator: effect, rules, and who is asked', () => {
  const seen = { deny: 0, error: 0, allow: 0, approve: 0, suggest: 0 } as Record<string, number>;
  const refused = { idle: 0, redundant: 0, misnamed: 0, rules: 0 };
  fc.assert(
    fc.property(fc.noShrink(fc.integer()), (seed) => {
      const draw = new Draw(seed);
      const drawn = drawProfile(draw);
      const subject = accepted(drawn);
      refused.rules += drawn.rules.length;
      refused.idle += subject.idle.length;
      refused.redundant += subject.redundant.length;
      refused.misnamed += subject.misnamed;
      for (let count = 0; count < QUESTIONS; count++) {
        const kind = compare(subject, drawRequest(draw));
        seen[kind] = (seen[kind] ?? 0) + 1;
      }
    }),
    { numRuns: PROFILES },
  );
  const part = (...kinds: string[]): number =>
    kinds.reduce((sum, kind) => sum + (seen[kind] ?? 0), 0) / (PROFILES * QUESTIONS);
  expect(part('deny', 'error', 'allow', 'approve', 'suggest')).toBe(1);
  // Each kind of answer was drawn often enough to mean something.
  for (const kind of ['deny', 'allow', 'approve', 'suggest'])
    expect([kind, part(kind) >= 0.15]).toEqual([kind, true]);
  expect(part('error')).toBeGreaterThan(0.01);
  for (const why of ['idle', 'redundant'] as const) expect([why, refused[why] > 4]).toEqual([why, true]);
  expect(refused.misnamed).toBeLessThan(refused.rules / 5);
}, 600_000);
