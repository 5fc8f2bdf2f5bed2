import type { ApprovalRow, Approver } from '../../contracts/approvals';
import { canonicalJson } from '../../contracts/digest';
import type { Admission, AdmitRequest } from '../../contracts/ledger';
import type { ApprovalTerms } from '../../contracts/policy-decision';
import { digest, refusal, type LedgerTenant } from './harness';

export const HOUR = 3_600_000;
export const REQUESTER = 'user:u-1';
export const FINANCE: Approver = { principal: 'user:fay', roles: ['finance'] };
export const SUPPORT: Approver = { principal: 'user:sam', roles: ['support'] };

export interface Asked {
  args?: unknown;
  schema?: string;
  effect?: 'approve' | 'suggest';
  terms?: Partial<ApprovalTerms>;
  requester?: string;
  change?: Partial<AdmitRequest>;
}

export const termsOf = (change: Partial<ApprovalTerms> = {}): ApprovalTerms => ({
  rules: ['large-refund'],
  roles: [['finance']],
  expiresAfterMs: HOUR,
  notRequester: true,
  ...change,
});

/** A refund at this path that policy has approved by a person, or suggested. */
export function refund(tenant: LedgerTenant, runId: string, path: string, asked: Asked = {}): AdmitRequest {
  const { args = { amount: 900 }, schema = 'v1', effect = 'approve', requester = REQUESTER } = asked;
  const terms = termsOf(asked.terms);
  const kind = effect === 'approve' ? 'approval_required' : 'suggested';
  return tenant.admission(runId, path, {
    action: 'payment.refund',
    callClass: 'high_risk_write',
    digest: digest([path, args]),
    verdict: {
      effect,
      rules: terms.rules,
      terms,
      asked: { args: canonicalJson(args), schemaDigest: digest(schema), requester },
      refusal: refusal({
        kind,
        rule: terms.rules[0] ?? '',
        rules: [...terms.rules],
        message: 'a person decides',
      }),
    },
    ...asked.change,
  });
}

/** Asks for it. */
export const ask = (
  tenant: LedgerTenant,
  runId: string,
  path: string,
  asked: Asked = {},
): Promise<Admission> => tenant.store.admit(refund(tenant, runId, path, asked));

/** Asks, and answers the number of the request that it made or met. Throws where it made none. */
export async function requested(
  tenant: LedgerTenant,
  runId: string,
  path: string,
  asked: Asked = {},
): Promise<number> {
  const answer = await ask(tenant, runId, path, asked);
  if (answer.answer !== 'refused' || !answer.approval)
    throw new Error(`no request: ${JSON.stringify(answer)}`);
  return answer.approval.no;
}

export const decide = (
  tenant: LedgerTenant,
  approvalNo: number,
  approver: Approver = FINANCE,
  decision: 'approve' | 'deny' = 'approve',
) => tenant.store.approvals.decide({ approvalNo, decision, approver, note: 'seen' });

/** Asks, and has it approved. */
export async function approved(tenant: LedgerTenant, runId: string, path: string, asked: Asked = {}) {
  const no = await requested(tenant, runId, path, asked);
  const answer = await decide(tenant, no);
  if (answer.kind !== 'decided') throw new Error(`not approved: ${JSON.stringify(answer)}`);
  return no;
}

export async function approval(tenant: LedgerTenant, no: number): Promise<ApprovalRow> {
  const row = await tenant.store.approvals.get(no);
  if (!row) throw new Error(`no approval ${no}`);
  return row;
}
