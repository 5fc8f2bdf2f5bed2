import type { TenantDocument } from '../../contracts/documents';
import { TenantId, type Environment } from '../../contracts/ids';
import type { OperatorStore } from '../../contracts/platform-ports';
import type { ParsedDocument } from '../../policy/documents';
import { ensureControl } from '../control';
import { isTemporalTrouble, temporalTroubleIn } from '../temporal-trouble';
import type { Common } from './command';
import type { CliContext, CliRuntime } from './context';
import { printRows } from './output';
import { wakeTenants } from './quota';

/** A document that was put, as it is printed. */
interface Done {
  readonly kind: ParsedDocument['kind'];
  readonly name: string;
  readonly done: 'saved' | 'created' | 'updated';
}

/**
 * Puts documents, each with what it names before it, and prints them. Rejects before the first where a tenant names what
 * neither exists nor is among them. Where one fails all the same, those before it are put: they are printed, and runs that
 * wait for a limit told, before it rejects.
 */
export async function putDocuments(
  context: CliContext,
  runtime: CliRuntime,
  documents: readonly ParsedDocument[],
  { actor, output }: Pick<Common, 'output'> & { readonly actor: string },
): Promise<void> {
  const operator = await runtime.operator();
  const named = documents.flatMap((one) =>
    one.kind === 'Tenant' || one.kind === 'PolicyProfile' ? [] : [one.document],
  );
  for (const one of documents) if (one.kind === 'Tenant') await operator.checkTenant(one.document, named);

  const done: Done[] = [];
  const print = (): void =>
    printRows(
      context,
      output,
      done,
      { KIND: (row) => row.kind, NAME: (row) => row.name, '': (row) => row.done },
      '',
    );
  try {
    for (const one of inOrder(documents)) {
      done.push(await put(operator, one, actor));
      if (one.kind === 'Tenant') await startControls(context, runtime, one.document);
    }
  } catch (error) {
    if (done.length > 0) print();
    // What failed first is to be told; and runs that are not woken ask again by themselves.
    await wakeChanged(context, runtime, documents).catch(() => undefined);
    throw error;
  }
  print();
  await wakeChanged(context, runtime, documents);
}

/** Tenants name pools, capacity and quota classes, so those come first. */
const ORDER: Record<ParsedDocument['kind'], number> = {
  ProviderPool: 0,
  CallCapacity: 0,
  QuotaClass: 1,
  Tenant: 2,
  PolicyProfile: 2,
};
const inOrder = (documents: readonly ParsedDocument[]): ParsedDocument[] =>
  [...documents].sort((a, b) => ORDER[a.kind] - ORDER[b.kind]);

async function put(operator: OperatorStore, one: ParsedDocument, actor: string): Promise<Done> {
  const saved = { kind: one.kind, name: one.document.metadata.name, done: 'saved' } as const;
  switch (one.kind) {
    case 'ProviderPool':
      await operator.putProviderPool(one.document, actor);
      return saved;
    case 'CallCapacity':
      await operator.putCallCapacity(one.document, actor);
      return saved;
    case 'QuotaClass':
      await operator.putQuotaClass(one.document, actor);
      return saved;
    case 'Tenant': {
      const { created } = await operator.putTenant(one.document, actor);
      return { ...saved, done: created ? 'created' : 'updated' };
    }
    case 'PolicyProfile':
      throw new TypeError('a PolicyProfile is published, with a reason');
  }
}

/** Runs that wait for a limit go on at once where these documents have raised it, and look in vain where they have not; those of other environments look by themselves. */
async function wakeChanged(
  context: CliContext,
  runtime: CliRuntime,
  documents: readonly ParsedDocument[],
): Promise<void> {
  const names = (kind: ParsedDocument['kind']): Set<string> =>
    new Set(documents.filter((one) => one.kind === kind).map(({ document }) => document.metadata.name));
  const [classes, tenants] = [names('QuotaClass'), names('Tenant')];
  const records = await (await runtime.operator()).tenants();
  const changed = records.filter(
    ({ tenantId, quotaClass, environment }) =>
      environment === runtime.environment && (tenants.has(tenantId) || classes.has(quotaClass)),
  );
  await wakeTenants(
    context,
    runtime,
    changed.map(({ tenantId }) => tenantId),
  );
}

/** Of the environment that this command speaks to; the sweep of each other one starts its own. */
async function startControls(
  context: CliContext,
  runtime: CliRuntime,
  document: TenantDocument,
): Promise<void> {
  const { name } = document.metadata;
  const environments = Object.keys(document.environments) as Environment[];
  if (!environments.includes(runtime.environment)) {
    context.say(
      `${name} is not in environment ${runtime.environment}; the workers of ${environments.join(', ')} take it up`,
    );
    return;
  }
  try {
    await ensureControl(await runtime.temporal(), TenantId.parse(name), runtime.environment);
  } catch (error) {
    if (!isTemporalTrouble(error)) throw error;
    context.say(
      `${temporalTroubleIn(error)}, so the kill switch of ${name} is not known to be started; the sweep starts it once it can`,
    );
  }
}
