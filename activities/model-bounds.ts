import type { ModelMessage } from 'ai';
import { MAX_STORED_BYTES, STORED_BESIDE_BYTES } from '../contracts/calls';
import type { ModelPrice } from '../contracts/documents';
import type { Cost } from './governed-call';

/** What is sent to a model beside its own output limit. */
export interface Prompt {
  readonly system: string;
  readonly messages: readonly ModelMessage[];
  /** Name, description and argument schema of each tool. */
  readonly tools: readonly unknown[];
}

/**
 * The most tokens that a prompt can be: its bytes, as JSON. A tokenizer that works on bytes (BPE, or pieces with a byte
 * fallback) makes at most one token of each byte of text, and what a provider's template puts around a message or a tool is
 * shorter than the JSON that names its parts. Text that a provider adds by itself is not in it: where that makes a call
 * use more, the ledger charges and reports the overshoot.
 */
export const inputBound = (prompt: Prompt): number => Buffer.byteLength(JSON.stringify(prompt), 'utf8');

/** More than any text has of its tokens on average, escapes of JSON included. */
const BYTES_PER_TOKEN = 64;

/** The most bytes that an answer of so many tokens may take in storage: a larger one is discarded, and its call fails. */
export const storedBound = (outputTokens: number): number =>
  Math.min(MAX_STORED_BYTES, outputTokens * BYTES_PER_TOKEN + STORED_BESIDE_BYTES);

const PER_PRICE = 1_000_000n;

/** What so many tokens cost, rounded up to a whole micro-dollar; nothing where the model has no price. */
export function costOf(price: ModelPrice | undefined, inputTokens: number, outputTokens: number): Cost {
  const modelTokens = inputTokens + outputTokens;
  if (!price) return { microUsd: 0, modelTokens };
  const parts =
    BigInt(inputTokens) * BigInt(price.inputMicroUsdPerMTok) +
    BigInt(outputTokens) * BigInt(price.outputMicroUsdPerMTok);
  return { microUsd: Number((parts + PER_PRICE - 1n) / PER_PRICE), modelTokens };
}

/** What an answer says that it used; every part of it may be missing or nonsense. */
export interface ToldUsage {
  readonly inputTokens: number | undefined;
  readonly outputTokens: number | undefined;
  /** The provider's own sum. More than its parts where it counts what is in neither, as some do with reasoning. */
  readonly totalTokens: number | undefined;
}

/** No call uses more: a larger count is nonsense, and the ledger could not add it up. */
const MOST_TOKENS = 1_000_000_000;

const isCount = (value: number | undefined): value is number =>
  value !== undefined && Number.isSafeInteger(value) && value >= 0 && value <= MOST_TOKENS;

/**
 * The usage that is charged: what the provider says, more than the bound too; the bound for each part that it does not say, or
 * that cannot be, such as an input of nothing.
 *
 * @param empty whether the answer holds nothing, so that no output is credible.
 */
export function usageOf(
  told: ToldUsage,
  bound: { readonly inputTokens: number; readonly outputTokens: number },
  empty: boolean,
): { inputTokens: number; outputTokens: number } {
  const { inputTokens: input, outputTokens: output, totalTokens: total } = told;
  const inputTokens = isCount(input) && input > 0 ? input : bound.inputTokens;
  const outputTokens = isCount(output) && (output > 0 || empty) ? output : bound.outputTokens;
  const known = inputTokens === input && outputTokens === output;
  if (!known || !isCount(total)) return { inputTokens, outputTokens };
  return { inputTokens, outputTokens: Math.max(outputTokens, total - inputTokens) };
}
