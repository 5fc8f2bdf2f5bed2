import { defaultPayloadConverter, type WorkflowInterceptorsFactory } from '@temporalio/workflow';
import { ENVELOPE_HEADER } from '../contracts/names';

/**
 * Puts the envelope of the workflow's input into the header of each activity: the input is the truth, and headers
 * travel from workflow to activity only. A workflow without an envelope sends none, and its activities are refused.
 */
export const interceptors: WorkflowInterceptorsFactory = () => {
  let signed: unknown;
  return {
    inbound: [
      {
        async execute(input, next) {
          const [first] = input.args;
          signed =
            typeof first === 'object' && first !== null && 'signed' in first ? first.signed : undefined;
          return await next(input);
        },
      },
    ],
    outbound: [
      {
        async scheduleActivity(input, next) {
          if (signed === undefined) return await next(input);
          return await next({
            ...input,
            headers: { ...input.headers, [ENVELOPE_HEADER]: defaultPayloadConverter.toPayload(signed) },
          });
        },
      },
    ],
  };
};
