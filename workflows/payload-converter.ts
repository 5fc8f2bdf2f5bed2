import { DefaultPayloadConverter, type Payload } from '@temporalio/common';

/** What a payload that cannot be read becomes: a value, for workflow code to refuse. */
export interface Malformed {
  readonly __malformed: string;
}
export const isMalformed = (value: unknown): value is Malformed =>
  typeof value === 'object' && value !== null && '__malformed' in value;

/**
 * Never throws on reading. A signal by hand with bad JSON, an unknown encoding or no metadata would otherwise fail the
 * workflow task for ever, and with it the tenant's kill switch. Must also be given to `bundleWorkflowCode`.
 */
class TolerantPayloadConverter extends DefaultPayloadConverter {
  override fromPayload<T>(payload: Payload): T {
    try {
      return super.fromPayload<T>(payload);
    } catch (error) {
      const reason = error instanceof Error ? error.message.slice(0, 120) : 'unreadable';
      return { __malformed: reason } as T;
    }
  }
}

export const payloadConverter = new TolerantPayloadConverter();
