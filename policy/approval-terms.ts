import { milliseconds } from '../contracts/duration';
import type { ApprovalTerms } from '../contracts/policy-decision';
import type { Approvers, Rule } from './rule-fields';

/** Who turns a suggestion into a call where its rule does not say: the tenant's operators, as the command line knows them. */
const SUGGESTION_APPROVERS: Approvers = { roles: ['operator'], expiresAfter: '24h', notRequester: true };

/** What a rule asks of the people it names; `undefined` for a rule that asks nobody. */
export function approversOf(rule: Rule): Approvers | undefined {
  return rule.approvers ?? (rule.effect === 'suggest' ? SUGGESTION_APPROVERS : undefined);
}

/** What several rules ask together, none of them loosened: every list of roles, the shortest time, a stranger if any asks for one. */
export function termsOf(asking: readonly { id: string; approvers: Approvers }[]): ApprovalTerms {
  const each = asking.map(({ approvers }) => approvers);
  return {
    rules: asking.map(({ id }) => id),
    roles: each.map(({ roles }) => roles),
    expiresAfterMs: Math.min(...each.map(({ expiresAfter }) => milliseconds(expiresAfter))),
    notRequester: each.some(({ notRequester }) => notRequester),
  };
}
