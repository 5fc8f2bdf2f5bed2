import type { CallAnswer } from '../contracts/calls';
import { callingFollowUp } from './call-context';
import { forwardCall } from './tool-call';
import { valueless, type ToolParts } from './tool';

/**
 * The activity behind the retry of a dead letter (promise N5): the call at `path` once more, as the model asked for it and
 * under its own key, through all of admission.
 */
export function createRetryCall({ storage, calls, gateway }: ToolParts) {
  return async function retryCall(input: {
    followUpNo: number;
    path: string;
    seq: number;
  }): Promise<CallAnswer<null>> {
    const { scope, signed } = callingFollowUp(input.followUpNo);
    const asked = await calls.ofPath(storage.tenant(scope), signed.envelope, input);
    return valueless(await gateway.govern(forwardCall(asked)));
  };
}
