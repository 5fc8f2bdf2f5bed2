import type { Envelope } from '../contracts/envelope';
import type { ContextMarker } from '../contracts/rows';

/** Something for a prompt is not shown to be the run's own: its scope is ambiguous, so nothing is sent (promise M5). */
export class ForeignContext extends Error {
  override readonly name = 'ForeignContext';
  /** @param what in words that quote nothing of it. */
  constructor(what: string, marker: ContextMarker) {
    super(
      marker.tenantId === null || marker.environment === null
        ? `${what} carries no tenant marker; nothing was sent`
        : `${what} carries another marker than this run's; nothing was sent`,
    );
  }
}

/**
 * Throws {@link ForeignContext} unless the marker is the run's own. Rows are scoped where they are read; this second wall
 * stands where a prompt is put together, for what came over the first.
 *
 * @param of `run` for what the run has said and been told, `tenant` for what all its tenant's runs may read.
 */
export function assertOwn(
  { tenantId, environment, rootRunId }: Pick<Envelope, 'tenantId' | 'environment' | 'rootRunId'>,
  marker: ContextMarker,
  of: 'run' | 'tenant',
  what: string,
): void {
  const own =
    marker.tenantId === tenantId &&
    marker.environment === environment &&
    marker.runId === (of === 'run' ? rootRunId : null);
  if (!own) throw new ForeignContext(what, marker);
}
