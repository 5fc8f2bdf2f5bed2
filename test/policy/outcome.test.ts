import { needsOf, outcomeOf, READ_BACK_MISSING } from '../../policy/outcome';
import { SECRET_NOT_GRANTED } from '../../policy/rule-fields';
import { app } from '../../examples/support-desk/app';
import { judgeAll, withoutGrants } from './golden-ground';

interface Changed {
  readonly change: (text: string) => string;
  /** A rule that decides something then, and of undos if that is another. */
  readonly shows: { readonly rule: string; readonly undo?: string };
}
const withRule =
  (rule: string): Changed['change'] =>
  (text) =>
    text.replace('rules:\n', `rules:\n  - { ${rule} }\n`);
const withoutCredential =
  (system: string): Changed['change'] =>
  (text) =>
    text.replaceAll(new RegExp(`^ *- \\{ capability: '${system}:.*\\n`, 'gm'), '');

/** The support desk's profiles: as they are, and with something taken out or put in that the gateway looks at. */
const CHANGES: Readonly<Record<string, Changed>> = {
  'as they are': { change: (text) => text, shows: { rule: 'small-refund' } },
  'without the credential for the CRM': {
    change: withoutCredential('crm'),
    shows: { rule: SECRET_NOT_GRANTED },
  },
  'without the credential for models': {
    change: withoutCredential('openai'),
    shows: { rule: SECRET_NOT_GRANTED },
  },
  'where writes are asked for': {
    change: withRule(
      'id: asked, effect: approve, actions: [ticket.update, payment.refund], approvers: { roles: [lead] }',
    ),
    shows: { rule: 'asked' },
  },
  'where writes are suggested': {
    change: withRule('id: suggested, effect: suggest, actions: [ticket.update, payment.refund]'),
    shows: { rule: 'suggested' },
  },
};

/** The support desk, where a refund cannot be read back. */
const blind = {
  ...app,
  actions: new Map(
    [...app.actions].map(([name, action]) => [
      name,
      name === 'payment.refund' ? { ...action, verify: null } : action,
    ]),
  ),
};

describe.each(Object.entries(CHANGES))('profiles %s', (_, { change, shows }) => {
  test.each([
    ['calls', app, false],
    ['undos', app, true],
    ['calls that cannot be read back', blind, false],
  ])(
    'P12 what cases and backtests say of a call is what the gateway decides: %s',
    async (_what, desk, undo) => {
      const seen = new Set<string>();
      for (const { key, args, verdict, policy } of await judgeAll(desk, { change, undo })) {
        // What form or scope refuses never comes to policy.
        if (!verdict.decided) continue;
        const request = { ...verdict.decided.input, args };
        const got = outcomeOf(policy, request, needsOf(request, desk));
        const rules = verdict.effect === 'deny' ? verdict.refusal.rules : withoutGrants(verdict.rules);
        const terms = verdict.effect === 'allow' || verdict.effect === 'deny' ? null : verdict.terms;
        expect({ key, effect: got.effect, rules: got.rules, approval: got.approval }).toEqual({
          key,
          effect: verdict.effect,
          rules,
          approval: terms,
        });
        seen.add(got.rules[0] ?? '');
      }
      expect(seen.size).toBeGreaterThan(5);
      if (desk === blind) expect(seen).toContain(READ_BACK_MISSING);
      else expect(seen).toContain(undo ? (shows.undo ?? shows.rule) : shows.rule);
    },
  );
});
