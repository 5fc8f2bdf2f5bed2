import type { RecordRef } from './action';
import type { TenantRecord } from './documents';

/** Whose a record is: the one check of accounts, for the gateway and for what a person says in a review (promise T6). */

/** Whether the account in that system is one of the tenant's scope. */
export function ownsAccount(tenant: TenantRecord, system: string, account: string): boolean {
  return tenant.scope.some((owned) => owned.system === system && owned.account === account);
}

/** The record in a result that is not shown to be the tenant's: another account's, or nobody's. */
export function foreignRecord(records: readonly RecordRef[], tenant: TenantRecord): RecordRef | undefined {
  return records.find(
    ({ system, account }) => account === undefined || !ownsAccount(tenant, system, account),
  );
}
