import { DefaultPayloadConverter, type PayloadConverter } from '@temporalio/common';

/** What a payload that cannot be read becomes: a value, for workflow code to refuse. */
export interface Malformed {
  readonly __malformed: string;
}
export const isMalformed = (value: unknown): value is Malformed =>
  typeof value === 'object' && value !== null && '__malformed' in value;

const usual = new DefaultPayloadConverter();

/**
 * Never throws on reading. A signal by hand with bad JSON, an unknown encoding or no metadata would otherwise fail the
 * workflow task for ever, and with it the tenant's kill switch. Must also be given to `bundleWorkflowCode`.
 */
export const payloadConverter: PayloadConverter = {
  toPayload: (value) => usual.toPayload(value),
  fromPayload: (payload) => {
    try {
      return usual.fromPayload(payload);
    } catch (error) {
      const malformed: Malformed = {
        __malformed: error instanceof Error ? error.message.slice(0, 120) : 'unreadable',
      };
      return malformed as never;
    }
  },
};
