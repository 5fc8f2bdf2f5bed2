import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import type { ExampleContext } from '../../../tools/example';
import { typed } from './typed';

/** What the operator changes in acme's policy: the sum above which nothing is refunded at all. */
const LIMIT = { from: 'context.args.amountCents > 50000', to: 'context.args.amountCents > 10000' };

const InForce = z.looseObject({ profile: z.string(), version: z.int(), text: z.string() });

/** A policy that was edited while runs go on. */
export interface LiveEdit {
  readonly before: number;
  readonly now: number;
  readonly wrong: string[];
  /** Publishes what was in force before, as a newer version; answers what was wrong. */
  back(): Promise<string[]>;
}

/**
 * Lowers acme's refund limit as an operator does: the text in force, one number changed, published. The command says first which
 * of the decisions of the last days would be made otherwise.
 */
export async function lowerRefundLimit(context: ExampleContext): Promise<LiveEdit> {
  const shown = await context.command(['policy', 'show', '--tenant', 'acme', '-o', 'json']);
  if (shown.code !== 0) throw new Error(`bulkhead policy show ended with ${shown.code}: ${shown.output}`);
  const { profile, version, text } = InForce.parse(JSON.parse(shown.output));
  if (!text.includes(LIMIT.from)) throw new Error(`version ${version} of ${profile} has another limit`);
  const file = path.join(context.stateDir, 'acme-lower-limit.yaml');
  writeFileSync(file, text.replace(LIMIT.from, LIMIT.to));
  context.say(`  refund-limit is edited: ${LIMIT.to}`);
  const published = await typed(
    context,
    ['policy', 'publish', '-f', file, '--reason', 'refunds over $100 are not made any more'],
    { says: [/approve → deny +large-refund +refund-limit +support_triage +payment\.refund/] },
  );
  const now = Number(new RegExp(`^ *${profile} +(\\d+) `, 'm').exec(published.output)?.[1] ?? Number.NaN);
  return {
    before: version,
    now,
    wrong: [
      ...published.wrong,
      ...(now > version ? [] : [`${profile} has no newer version than ${version}`]),
    ],
    back: async () =>
      (
        await typed(context, [
          'policy',
          'back',
          profile,
          '--to',
          String(version),
          '--reason',
          'the example is over',
        ])
      ).wrong,
  };
}
