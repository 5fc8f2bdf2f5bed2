const ending: (() => Promise<void>)[] = [];

/** Remembers how to end what a run started. */
export function onTeardown(end: () => Promise<void>): void {
  ending.push(end);
}

/** Ends everything that the run's setup started, in reverse order. */
export default async function globalTeardown(): Promise<void> {
  for (const end of ending.splice(0).reverse()) await end();
}
