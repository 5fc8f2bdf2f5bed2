/** What a trial is told to do, and the ledger's answers in the model's words. */
import type { Admission } from '../../contracts/ledger';
import type { UndoItem } from '../../contracts/reviews';
import type { Doubt, ModelClass, Resolution, Result, Said } from './model-words';
import type { Item } from './model-doubt';

export const START = Date.UTC(2025, 2, 10, 23, 58);
export const LEASE = 5_000;
/** As short as it may be. */
export const SILENCE = 5_000;
export const PATHS: readonly { path: string; class: ModelClass; action: string }[] = [
  { path: '0.0', class: 'model', action: 'model.generate' },
  { path: '0.1', class: 'read', action: 'ticket.read' },
  { path: '0.2', class: 'write', action: 'ticket.update' },
  { path: '0.3', class: 'high_risk_write', action: 'payment.refund' },
];

export type Command =
  | {
      do: 'ask';
      slot: number;
      path: number;
      reworded: boolean;
      /** The tenant's connection is another now. */
      elsewhere: boolean;
      denied: boolean;
      stale: boolean;
      stranger: boolean;
      ahead: boolean;
      toolCalls: 0 | 1;
      steps: 0 | 1;
      microUsd: number;
      host: number;
      /** Asks as the workflow of one of the follow-ups, counted from the newest. */
      followUp: number | null;
      undo: boolean;
      pastFence: boolean;
    }
  | { do: 'ask again'; attempt: number }
  | { do: 'send'; attempt: number }
  | { do: 'settle'; attempt: number; result: Result; toolCalls: 0 | 1; microUsd: number; doubt: Doubt }
  | { do: 'tick'; ms: number }
  | { do: 'kill' | 'release' | 'publish' | 'reap' }
  | { do: 'limits'; callsInFlight: number; toolCallsPerDay: number; perRunSteps: number }
  | { do: 'leave'; slot: number; completed: boolean; onFailure: boolean; onKill: boolean }
  | { do: 'start'; slot: number }
  | { do: 'order undo' | 'begin undo'; slot: number }
  | { do: 'resolve'; back: number; resolution: Resolution }
  | { do: 'retry' | 'discard' | 'enter' | 'leave follow-up'; back: number }
  | { do: 'beat'; host: number }
  | { do: 'mourn' | 'purge' };

export const BY = { actor: 'op', note: '' };

export const FREE = { toolCalls: 0, steps: 0, microUsd: 0, modelTokens: 0 } as const;
/** The items of an undo in the model's words. */
export const items = (of: readonly UndoItem[]): Item[] =>
  of.map(({ path, state, undo }) => [path, state, undo]);

/** An answer of the ledger in the model's words. */
export function said(answer: Admission): Said {
  switch (answer.answer) {
    case 'admitted':
      return { answer: 'admitted', attempt: answer.attempt, epoch: answer.epoch };
    case 'recover':
      return {
        answer: 'recover',
        lookupOnly: answer.lookupOnly,
        quietMs: answer.quietMs,
        attempt: answer.attempt,
        epoch: answer.epoch,
      };
    case 'replayed': {
      const { state, refusal: why, reviewNo } = answer.outcome;
      return { answer: 'replayed', state, reviewed: reviewNo !== null, ...(why && { rule: why.rule }) };
    }
    case 'in_flight':
      return { answer: 'in_flight', retryAfterMs: answer.retryAfterMs };
    case 'stale':
      return { answer: 'stale', policyVersion: answer.policyVersion };
    case 'refused': {
      const { kind, rule, value, used, retryAfterMs } = answer.refusal;
      return {
        answer: 'refused',
        kind,
        rule,
        ...(value !== undefined && { value }),
        ...(used !== undefined && { used }),
        ...(retryAfterMs !== undefined && { retryAfterMs }),
      };
    }
  }
}
