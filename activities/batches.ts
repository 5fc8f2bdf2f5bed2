/** Runs `body` over items, at most `atOnce` at a time. What fails is told of, and keeps none of the others from its turn. */
export async function inBatches<T>(
  items: readonly T[],
  atOnce: number,
  body: (item: T) => Promise<void>,
  onFailure: (item: T, error: unknown) => void,
): Promise<void> {
  const left = items.values();
  const oneByOne = async (): Promise<void> => {
    // One iterator for all: whoever is done takes the next.
    for (const item of left) await body(item).catch((error: unknown) => onFailure(item, error));
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, oneByOne));
}
