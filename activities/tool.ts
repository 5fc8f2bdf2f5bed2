import type { CallAnswer, Position } from '../contracts/calls';
import type { Storage } from '../contracts/ports';
import type { AskedCalls } from './asked-calls';
import { callingRun } from './call-context';
import type { Gateway } from './gateway';
import { forwardCall } from './tool-call';

/** What the activities behind tool calls are made of. */
export interface ToolParts {
  readonly storage: Storage;
  readonly calls: AskedCalls;
  readonly gateway: Gateway;
}

/** The activity behind every tool call: from what the model asked for to a governed call. */
export function createCallTool({ storage, calls, gateway }: ToolParts) {
  return async function callTool(input: {
    position: Position;
    source: Position;
    index: number;
    seq: number;
  }): Promise<CallAnswer<null>> {
    const { scope, signed } = callingRun();
    const asked = await calls.ofStep(storage.tenant(scope), signed.envelope, input);
    return valueless(await gateway.govern(forwardCall(asked)));
  };
}

/** A tool call tells its workflow nothing but that it is done: its result is the conversation's. */
export const valueless = (answer: CallAnswer<unknown>): CallAnswer<null> =>
  answer.kind === 'done' ? { ...answer, value: null } : answer;
