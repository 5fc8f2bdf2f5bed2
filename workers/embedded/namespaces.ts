import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time';
import { SEARCH_ATTRIBUTES } from '../../contracts/states';

/** `INDEXED_VALUE_TYPE_KEYWORD` of Temporal's API. */
const KEYWORD = 2;
/** How long closed runs stay readable in a namespace that we create: a Friday's runs are there on Monday. */
const RETENTION = '72 hours';

const NOT_FOUND = 5;
const ALREADY_EXISTS = 6;
const INVALID_ARGUMENT = 3;

/**
 * Makes a namespace usable by runs: creates it where it is missing, registers the search attributes it lacks, and
 * waits until the server accepts them in a query. Harmless when repeated, and when two do it at once.
 * Rejects where an attribute exists with another type, or the server does not take it in time, with the remedy.
 */
export async function ensureNamespace(
  connection: Connection,
  namespace: string,
  withinMs = 30_000,
): Promise<void> {
  const until = performance.now() + withinMs;
  await createIfMissing(connection, namespace);
  await registerAttributes(connection, namespace, until);
  await untilUsable(connection, namespace, until);
}

async function createIfMissing(connection: Connection, namespace: string): Promise<void> {
  try {
    await connection.workflowService.describeNamespace({ namespace });
    return;
  } catch (error) {
    if (codeOf(error) !== NOT_FOUND) throw cannot(`read namespace ${namespace}`, error);
  }
  try {
    await connection.workflowService.registerNamespace({
      namespace,
      description: 'A Bulkhead environment',
      workflowExecutionRetentionPeriod: msToTs(RETENTION),
    });
  } catch (error) {
    if (codeOf(error) !== ALREADY_EXISTS) throw cannot(`create namespace ${namespace}`, error);
  }
}

async function registerAttributes(connection: Connection, namespace: string, until: number): Promise<void> {
  for (;;) {
    try {
      const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
      const known: Readonly<Record<string, number>> = customAttributes ?? {};
      const wrong = SEARCH_ATTRIBUTES.filter((name) => known[name] !== undefined && known[name] !== KEYWORD);
      if (wrong.length > 0) {
        throw new Error(
          `namespace ${namespace} has search attribute ${wrong.join(', ')} with another type than Keyword: ` +
            'remove it there, or give the environment a namespace of its own (TEMPORAL_NAMESPACE)',
        );
      }
      const missing = SEARCH_ATTRIBUTES.filter((name) => known[name] === undefined);
      if (missing.length === 0) return;
      await connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: Object.fromEntries(missing.map((name) => [name, KEYWORD])),
      });
      return;
    } catch (error) {
      const code = codeOf(error);
      if (code === ALREADY_EXISTS) continue;
      // A namespace just created reaches every part of the server only after a while.
      if (code !== NOT_FOUND || performance.now() > until)
        throw cannot(`register search attributes in namespace ${namespace}`, error);
      await sleep(100);
    }
  }
}

async function untilUsable(connection: Connection, namespace: string, until: number): Promise<void> {
  const query = SEARCH_ATTRIBUTES.map((name) => `${name} = "-"`).join(' AND ');
  for (;;) {
    try {
      await connection.workflowService.listWorkflowExecutions({ namespace, query, pageSize: 1 });
      return;
    } catch (error) {
      const code = codeOf(error);
      if ((code !== INVALID_ARGUMENT && code !== NOT_FOUND) || performance.now() > until) {
        throw cannot(`use the search attributes of namespace ${namespace}`, error);
      }
      await sleep(100);
    }
  }
}

function cannot(what: string, error: unknown): Error {
  if (codeOf(error) === undefined) return error instanceof Error ? error : new Error(String(error));
  const said = error instanceof Error ? error.message : String(error);
  return new Error(
    `Temporal: cannot ${what} (${said}). Check its address and rights, or have its operator do it.`,
    { cause: error },
  );
}

const codeOf = (error: unknown): number | undefined => {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'number' ? code : undefined;
};
