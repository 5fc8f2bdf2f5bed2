/**
 * Settles as `promise` does, or rejects with the signal's reason as soon as that is aborted, also where it was before. What
 * stands behind the promise goes on: its end is nobody's any more.
 */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const over = (): void => reject(signal.reason as Error);
    if (signal.aborted) over();
    signal.addEventListener('abort', over, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', over));
  });
}
