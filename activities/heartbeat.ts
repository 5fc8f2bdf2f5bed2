import { Context } from '@temporalio/activity';
import { z } from 'zod';

/** What a governed call says with its heartbeats: the sequence of its admission, for the attempt after it. */
const Told = z.object({ seq: z.int().nonnegative() });

const said = new WeakMap<Context, z.infer<typeof Told>>();

/** Beats now, and says this with every later beat of the running attempt too. */
export function beatWith(told: { seq: number }): void {
  const context = Context.current();
  said.set(context, told);
  context.heartbeat(told);
}

/** A plain beat: repeats what this attempt has said, or else the one before it, for a beat replaces what was said. */
export function beat(context: Context): void {
  context.heartbeat(said.get(context) ?? context.info.heartbeatDetails);
}

/** The sequence that the attempt before this one was told at its admission; 0 where it was told none. */
export function seqOfEarlierAttempt(): number {
  return Told.safeParse(Context.current().info.heartbeatDetails).data?.seq ?? 0;
}
