import type { ModelMessage } from 'ai';
import { positionPath, type StoredToolResult } from '../contracts/calls';
import type { Envelope } from '../contracts/envelope';
import type { StoredItem } from '../contracts/rows';
import { assertOwn } from './markers';

type JsonValue = Extract<
  NonNullable<Extract<ModelMessage, { role: 'tool' }>['content'][number]>,
  { type: 'tool-result' }
>['output'] extends infer O
  ? O extends { type: 'json'; value: infer V }
    ? V
    : never
  : never;

/** Something that the run was told of is not in storage. */
export class NotStored extends Error {
  override readonly name = 'NotStored';
  /** @param ref `input`, or the position path of a call. */
  constructor(
    readonly ref: string,
    message: string,
  ) {
    super(message);
  }
}

/**
 * The messages that a model sees before `step`: the input, then every earlier step with the results of the tools it
 * asked for. Rows come through the tenant's handle, and yet each has to carry the run's own marker: one that does not
 * throws `ForeignContext`. A step without its results is refused (`NotStored`), for a model that does not see a refusal
 * would try again.
 */
export function assembleMessages(
  own: Pick<Envelope, 'tenantId' | 'environment' | 'rootRunId'>,
  rows: readonly StoredItem[],
  step: number,
): ModelMessage[] {
  for (const { ref, marker } of rows) assertOwn(own, marker, 'run', `item ${ref} of the conversation`);
  const byRef = new Map(rows.map(({ ref, payload }) => [ref, payload]));
  const input = byRef.get('input');
  if (input?.kind !== 'input') throw new NotStored('input', 'the input of this run is not in storage');
  const messages: ModelMessage[] = [
    { role: 'user', content: typeof input.input === 'string' ? input.input : JSON.stringify(input.input) },
  ];
  for (let earlier = 0; earlier < step; earlier += 1) {
    const source = positionPath({ step: earlier, ordinal: 0 });
    const asked = byRef.get(source);
    if (asked?.kind !== 'model') throw new NotStored(source, `step ${earlier} of this run is not in storage`);
    messages.push({
      role: 'assistant',
      content: [
        ...(asked.text ? [{ type: 'text' as const, text: asked.text }] : []),
        ...asked.toolCalls.map(({ id, name, args }) => ({
          type: 'tool-call' as const,
          toolCallId: id,
          toolName: name,
          input: args,
        })),
      ],
    });
    if (asked.toolCalls.length === 0) continue;
    messages.push({
      role: 'tool',
      content: asked.toolCalls.map(({ id, name }, index) => {
        const ref = positionPath({ step: earlier, ordinal: index + 1 });
        const result = byRef.get(ref);
        if (result?.kind !== 'tool')
          throw new NotStored(ref, `the result of call ${index + 1} of step ${earlier} is not in storage`);
        return {
          type: 'tool-result' as const,
          toolCallId: id,
          toolName: name,
          output: { type: 'json' as const, value: seen(result) },
        };
      }),
    });
  }
  return messages;
}

/** What a model sees of a result: of a refusal who refused and why, never the limits or the policy behind it. */
function seen(result: StoredToolResult): JsonValue {
  if (result.outcome === 'done') return { outcome: 'done', result: result.result as JsonValue };
  const { origin, rule, message } = result.refusal;
  return { outcome: result.outcome, refusal: { origin, rule, message: result.detail ?? message } };
}
