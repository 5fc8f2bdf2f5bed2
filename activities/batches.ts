/** Runs `body` over items, at most `atOnce` at a time; the first failure rejects after its batch. */
export async function inBatches<T>(
  items: readonly T[],
  atOnce: number,
  body: (item: T) => Promise<void>,
): Promise<void> {
  for (let at = 0; at < items.length; at += atOnce) await Promise.all(items.slice(at, at + atOnce).map(body));
}
