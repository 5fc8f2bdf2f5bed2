import type { Digest } from './ids';
import type { Refusal } from './refusal';

/**
 * Where in its run a call stands: the step of the agent loop (0, 1, 2 …) and the ordinal within it (0 is the
 * model's call, 1 … the tools it asked for). Taken synchronously, carried through continue-as-new, and the only
 * part of an idempotency key that changes within a run.
 */
export interface Position {
  readonly step: number;
  readonly ordinal: number;
}

/** `3.1`. Also the name of the call's payload in tenant storage. */
export const positionPath = (position: Position): string => `${position.step}.${position.ordinal}`;

/** Path of the call that undoes the one at `path`: a key of its own, the same whoever orders the undo. */
export const undoPath = (path: string): string => `${path}/undo`;

/** What every governed call answers to its workflow: references and digests, never payload. */
export type CallAnswer<Value> =
  | {
      readonly kind: 'done';
      readonly value: Value;
      readonly ref: string;
      readonly digest: Digest;
      readonly seq: number;
    }
  | {
      readonly kind: Refusal['kind'];
      readonly refusal: Refusal;
      /** A person has to look at it; `wait` where policy has the run wait for that. */
      readonly review?: {
        readonly no: number;
        readonly wait: boolean;
        /** Of an undo's answer: path of the undo where the review is of it; absent where it is of the write. */
        readonly of?: string;
      };
      /** Kind `approval_required`: the request that a person has to decide, and for how long it stays open. */
      readonly approval?: { readonly no: number; readonly expiresInMs: number };
      readonly seq: number;
    };

/** What a model asked for, without its arguments: those stay in tenant storage under the model call's position. */
export interface ModelStep {
  /** Registered action names; `null` where the model named none that exists. */
  readonly toolCalls: readonly (string | null)[];
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Of each tool call, in their order; absent in histories of before it was told. */
  readonly asked?: readonly AskedDigest[];
  /** What it cost, where its tokens have a price. */
  readonly microUsd?: number;
  /** `provider/model` that answered in the place of the agent's own. */
  readonly model?: string;
}

/** By which the workflow knows the same call again, and nothing else of it. */
export interface AskedDigest {
  /** Short, of action and canonical arguments. */
  readonly digest: string;
  readonly write: boolean;
}

/**
 * Set where the database was restored to a time before this was stored, and `bulkhead recover` has put words in its
 * place: it is for models to read. Arguments and results in it are nobody's, so nothing may be done with them.
 */
export type Lost = true;

/** The most that a result may have, in bytes of JSON. An action may declare less: that is reserved where storage is limited. */
export const MAX_RESULT_BYTES = 1_048_576;
/** Room for what is stored beside a result, and for a refusal in its place. */
export const STORED_BESIDE_BYTES = 4_096;
/** The most that one call stores: a larger outcome fails instead. */
export const MAX_STORED_BYTES = MAX_RESULT_BYTES + STORED_BESIDE_BYTES;

/**
 * The most that a model is asked with: what its run has said and been told, in bytes of JSON. All of it is read, walked and sent anew for every step,
 * by a host that other tenants are on too.
 */
export const MAX_CONVERSATION_BYTES = 4_194_304;

/** What a run has said and been told is more than a model may be asked with. It never becomes less. */
export class ConversationTooLarge extends Error {
  override readonly name = 'ConversationTooLarge';
  constructor(
    readonly bytes: number,
    readonly most: number,
  ) {
    super(`what the run has said and been told is ${bytes} bytes, and its model may be asked with ${most}`);
  }
}

/** What is kept of a call in tenant storage, under its position. */
export type StoredModelStep = {
  readonly kind: 'model';
  readonly text: string;
  readonly toolCalls: readonly { readonly id: string; readonly name: string; readonly args: unknown }[];
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** `provider/model` that answered in the place of the agent's own. */
  readonly model?: string;
  readonly lost?: Lost;
};
export type StoredToolResult =
  | {
      readonly kind: 'tool';
      readonly outcome: 'done';
      readonly action: string;
      readonly result: unknown;
      readonly lost?: Lost;
    }
  | {
      readonly kind: 'tool';
      readonly outcome: Refusal['kind'];
      readonly action: string;
      readonly refusal: Refusal;
      /** For the model alone: it may quote the model's own words, which no history or journal repeats. */
      readonly detail?: string;
    };
/** What the caller gave the run. */
export type StoredInput = { readonly kind: 'input'; readonly input: unknown; readonly lost?: Lost };
export type StoredPayload = StoredInput | StoredModelStep | StoredToolResult;
