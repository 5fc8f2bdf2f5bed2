import type { DecisionRow } from '../contracts/approvals';
import { MODEL_ACTION } from '../contracts/names';
import type { CompiledPolicy, PolicyEffect } from '../contracts/policy-decision';
import { needsOf, outcomeOf } from './outcome';
import type { Registry } from './vocabulary';

/** Decisions that a candidate would make otherwise, of one agent and action and by the same rules. */
export interface Change {
  readonly from: PolicyEffect;
  readonly to: PolicyEffect;
  /** The rules that decided it then, and those that would now. */
  readonly rulesThen: readonly string[];
  readonly rulesNow: readonly string[];
  readonly agent: string;
  readonly action: string;
  readonly decisions: number;
  /** What these calls were charged then. Of calls that were not made there is nothing to sum up. */
  readonly microUsd: bigint;
  /** The newest of them. */
  readonly last: { readonly runId: string; readonly path: string; readonly at: string };
}

/** Why a decision could not be made again. */
export const NOT_REPLAYABLE = {
  arguments_gone: 'what the model asked for is not stored any more',
  schema_changed:
    'its arguments are none in the action’s schema of today, so it would be refused before policy is asked',
} as const;
export type NotReplayable = keyof typeof NOT_REPLAYABLE;

export interface BacktestReport {
  readonly decisions: number;
  readonly notReplayable: Readonly<Record<NotReplayable, number>>;
  /** Of those without arguments, the ones that were not allowed: whether they would be now is not known. */
  readonly unknown: number;
  readonly changes: readonly Change[];
}

/** Whether calls that were not let through at once would be now. */
export const isNewAllow = ({ from, to }: Pick<Change, 'from' | 'to'>): boolean =>
  from !== 'allow' && to === 'allow';

/** Replays recorded decisions against a candidate, one after the other, and keeps only what changed. */
export interface Backtest {
  /** `args`: what the model asked for, as it was stored; `undefined` where that is gone. Without meaning for a model call. */
  take(row: DecisionRow, args: unknown): void;
  /** New allows first, then new denials, then the rest; within each what happened most often. */
  report(): BacktestReport;
}

export function startBacktest(policy: CompiledPolicy, registry: Registry): Backtest {
  const changes = new Map<string, { -readonly [K in keyof Change]: Change[K] }>();
  const notReplayable = { arguments_gone: 0, schema_changed: 0 };
  let [decisions, unknown] = [0, 0];
  return {
    take(row, stored) {
      decisions += 1;
      const args = argumentsOf(row, stored, registry);
      if (typeof args === 'string') {
        notReplayable[args] += 1;
        if (args === 'arguments_gone' && row.effect !== 'allow') unknown += 1;
        return;
      }
      const request = { ...row.input, args };
      const { effect: to, rules } = outcomeOf(policy, request, needsOf(request, registry));
      if (to === row.effect) return;
      const { agentId: agent, action } = row.input;
      // Which entry of `secrets` granted the credential decided nothing.
      const rulesThen = row.rules.filter((rule) => !rule.startsWith('secrets['));
      const kind = { from: row.effect, to, rulesThen, rulesNow: rules, agent, action };
      const key = JSON.stringify(kind);
      const last = { runId: row.runId, path: row.path, at: row.at };
      const known = changes.get(key);
      changes.set(key, {
        ...kind,
        decisions: (known?.decisions ?? 0) + 1,
        microUsd: (known?.microUsd ?? 0n) + BigInt(row.microUsd),
        last: known && known.last.at > last.at ? known.last : last,
      });
    },
    report: () => ({
      decisions,
      notReplayable: { ...notReplayable },
      unknown,
      changes: [...changes.values()].sort(
        (a, b) => weight(a) - weight(b) || b.decisions - a.decisions || order(a, b),
      ),
    }),
  };
}

function argumentsOf(
  { input }: DecisionRow,
  stored: unknown,
  { actions }: Registry,
): Readonly<Record<string, unknown>> | NotReplayable {
  // An action that the app has no more is denied whatever its arguments are.
  const action = input.action === MODEL_ACTION ? undefined : actions.get(input.action);
  if (!action) return {};
  if (stored === undefined) return 'arguments_gone';
  return action.args.safeParse(stored).data ?? 'schema_changed';
}

const weight = (change: Change): number => (isNewAllow(change) ? 0 : change.to === 'deny' ? 1 : 2);

function order(a: Change, b: Change): number {
  const key = ({ from, to, agent, action, rulesNow, rulesThen }: Change): string =>
    JSON.stringify([agent, action, from, to, rulesNow, rulesThen]);
  return key(a) < key(b) ? -1 : 1;
}
