import type { Action, Attribute, RecordRef } from './action';

/** What a result sets and brings into its run, beside itself. */
export interface Shown {
  readonly facts: Readonly<Record<string, Attribute>>;
  readonly records: readonly RecordRef[];
  readonly dataClasses: readonly string[];
}

/**
 * What a call of `action` shows by its result, in the form in which it is kept: one rule for a result that came, one that was
 * looked up, and one that a person tells. Throws what the action's own functions throw, and ZodError for facts out of schema.
 */
export function shownBy(action: Action, args: unknown, result: unknown): Shown {
  return {
    facts: action.facts ? (action.facts.schema.parse(action.facts.from(args, result)) as Shown['facts']) : {},
    records: action.records?.(args, result) ?? [],
    dataClasses: action.resultClasses,
  };
}
