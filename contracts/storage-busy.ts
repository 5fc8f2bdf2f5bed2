/**
 * The database did not answer in time, or not at all: nothing may be assumed of the statement but that it can be asked
 * again with the same token. Retried; never read as permission.
 */
export class StorageBusy extends Error {
  override readonly name = 'StorageBusy';
}

export const isStorageBusy = (error: unknown): boolean =>
  error instanceof Error && error.name === 'StorageBusy';
