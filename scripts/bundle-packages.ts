/** Temporal's own, and what it brings. Each workflow evaluates all of its bundle anew: with zod in it a short history took a third more to replay. */
const MAY_BE_THERE = ['@temporalio/common', '@temporalio/workflow', 'long', 'ms', 'nexus-rpc'];

/**
 * The packages in the code of a workflow bundle that have no business there. Throws where the code does not show its
 * packages: a bundle that cannot be read is not one that is well.
 */
export function strangersIn(code: string): string[] {
  // By webpack's own heading of each module.
  const found = code.matchAll(/^\/\*{3}\/ "[^"]*node_modules\/((?:@[^/"]+\/)?[^/"]+)/gm);
  const packages = new Set([...found].map(([, name = '']) => name));
  if (!packages.has('@temporalio/workflow'))
    throw new Error(
      'the headings of the bundle’s modules do not read as they did: what it holds is not known',
    );
  return [...packages].filter((name) => !MAY_BE_THERE.includes(name)).sort();
}
