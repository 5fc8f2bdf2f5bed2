import { ENVELOPE_ALGORITHM, ENVELOPE_TYPE } from './envelope-keys';

/** Why an envelope was not believed, for machines, with what to do about it. */
export const ENVELOPE_REASONS = {
  missing:
    'no envelope came with the task: start runs through `bulkhead run start` or the client, not by hand',
  malformed:
    'it is not a signed envelope: start runs through `bulkhead run start` or the client, not by hand',
  oversized:
    'it is larger than any envelope: start runs through `bulkhead run start` or the client, not by hand',
  unknown_key:
    'its key is not in the key set: give every worker the key set that belongs to the signer, and restart it',
  wrong_algorithm: 'it is not signed with Ed25519: envelopes are signed by acceptance alone',
  wrong_type: 'its proof is for something else: envelopes are signed by acceptance alone',
  key_expired:
    'its key is past its time: keep retired keys in the key set until the last run they signed is closed',
  key_not_yet_valid:
    'its key is not valid yet: check the clocks of signer and worker, and `nbf` in the key set',
  bad_signature:
    'it was altered after it was signed, or signed by someone else: look into who can start workflows here',
  other_workflow: 'it was made for another workflow: look into who can start workflows here',
  other_environment:
    'it was made for another environment: the worker is connected to the wrong namespace, or the run is',
  contradicts_workflow_id: 'it contradicts the id of its own workflow: look into who holds the signing key',
} as const;
export type EnvelopeReason = keyof typeof ENVELOPE_REASONS;

/**
 * Thrown when an envelope is not believed. Not retryable: the same envelope will not be believed later either.
 * `message` names the reason and the remedy, and nothing of the envelope's content.
 */
export class EnvelopeRejected extends Error {
  override readonly name = 'EnvelopeRejected';
  readonly remedy: string;

  constructor(
    readonly reason: EnvelopeReason,
    detail?: string,
  ) {
    super(`envelope rejected (${reason}${detail ? `, ${detail}` : ''}): ${ENVELOPE_REASONS[reason]}`);
    this.remedy = ENVELOPE_REASONS[reason];
  }
}

/** Names what is wrong with a protected header that no known key has. For the message alone: nothing is believed of it. */
export function reasonOfHeader(header: string): EnvelopeReason {
  let claimed: unknown;
  try {
    claimed = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'));
  } catch {
    return 'malformed';
  }
  if (typeof claimed !== 'object' || claimed === null) return 'malformed';
  const { alg, typ, ...rest } = claimed as Record<string, unknown>;
  if (alg !== ENVELOPE_ALGORITHM) return 'wrong_algorithm';
  if (typ !== ENVELOPE_TYPE) return 'wrong_type';
  return Object.keys(rest).some((name) => name !== 'kid') ? 'malformed' : 'unknown_key';
}
