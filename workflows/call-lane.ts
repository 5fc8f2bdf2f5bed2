import { ActivityFailure, ApplicationFailure, sleep, TimeoutFailure } from '@temporalio/workflow';
import type { CallAnswer } from '../contracts/calls';
import type { FailureType } from '../contracts/failures';
import type { CallLane, Entered } from '../contracts/workflow-io';
import { callsOn, lifecycle, type CallQueue, type GovernedCalls } from './activities';
import { RefusalPace } from './refusal-pace';
import type { WorkView } from './work-view';

/** How often in a row a worker may say that the tenant is not on its lane although the placement says that it is. */
const MOST_REFUSED = 5;
const WRONG_LANE: FailureType = 'WrongLane';

/** What was told at entry of where calls go. Histories of before `lane` hold a queue alone, and wait there for ever. */
export type ToldLane = Pick<Entered, 'queue' | 'lane' | 'expensive' | 'callsAtOnce' | 'refusalPace'>;

/**
 * The lane of one run or follow-up (promise N2): makes its calls where the tenant's placement says. A call that no worker took
 * in time, or whose worker serves the tenant no more, is scheduled again at the same position where the tenant is by then: its
 * key is the position's, so that whatever an earlier attempt has done is known to the ledger, and is not done again.
 */
export class CallsLane {
  #lane: CallLane | undefined;
  #underWay = 0;
  readonly #line: (() => void)[] = [];
  readonly #pace: RefusalPace;

  constructor(
    private readonly view: WorkView,
    private readonly told: ToldLane,
    private readonly tenantId: string,
  ) {
    this.#lane = told.lane;
    this.#pace = new RefusalPace(told.refusalPace, (ms, inARow) => this.#pause(ms, inARow));
  }

  /**
   * Makes a call, on the queue of expensive ones where its action is among them. While nobody takes it, the view says why. Of
   * calls beyond those that may be on the lane at once, whoever asked first goes first: a flood that waits in its own workflow
   * costs Temporal, and so the neighbours, nothing. A run whose calls policy refuses one after the other makes them a pause apart.
   *
   * @param action `null` for a call that has none: a model's, or of an action that does not exist.
   */
  async call<T>(
    action: string | null,
    summary: string,
    make: (calls: GovernedCalls) => Promise<CallAnswer<T>>,
  ): Promise<CallAnswer<T>> {
    if (this.#underWay >= (this.told.callsAtOnce ?? Infinity))
      await new Promise<void>((goes) => this.#line.push(goes));
    else this.#underWay += 1;
    try {
      await this.#pace.turn();
      const answer = await this.#made(action, summary, make);
      this.#pace.ended(action, answer.kind);
      return answer;
    } finally {
      const next = this.#line.shift();
      // Whoever goes next takes this one's place.
      if (next) next();
      else this.#underWay -= 1;
    }
  }

  async #pause(ms: number, refusedInARow: number): Promise<void> {
    this.view.pausesAfter(refusedInARow);
    await sleep(ms, { summary: `policy refused ${refusedInARow} calls in a row: a pause before the next` });
    this.view.asksAgain();
  }

  async #made<T>(
    action: string | null,
    summary: string,
    make: (calls: GovernedCalls) => Promise<CallAnswer<T>>,
  ): Promise<CallAnswer<T>> {
    let refused = 0;
    for (let looks = 0; ; looks += 1) {
      const queue = this.#queueOf(action, looks);
      try {
        const answer = await make(callsOn(queue, summary));
        if (looks > 0) this.view.goesOn();
        return answer;
      } catch (error) {
        const why = this.#lane && notTaken(error);
        if (!why) throw error;
        this.view.saw(why.seq);
        const moved = await this.#follow(queue.taskQueue, action);
        if (moved) looks = 0;
        refused = why.kind === 'refused' && !moved ? refused + 1 : 0;
        if (refused >= MOST_REFUSED) throw error;
      }
    }
  }

  /** Learns where the tenant is now, and waits while nobody serves it there. Answers whether its calls go elsewhere. */
  async #follow(queue: string, action: string | null): Promise<boolean> {
    const find = lifecycle('who takes the calls of this lane?').findLane;
    let found = await find({ queue, untilServed: false });
    if (found.refusal) this.view.waitsForLane(found.refusal);
    if (!found.served) {
      found = await lifecycle('wait for a worker on this lane').findLane({ queue, untilServed: true });
      this.view.goesOn();
    }
    this.#lane = found.lane;
    return this.#queueOf(action, 0).taskQueue !== queue;
  }

  #queueOf(action: string | null, looks: number): CallQueue {
    const { told, tenantId: fairnessKey } = this;
    const lane = this.#lane;
    if (!lane) return { taskQueue: told.queue, priority: { fairnessKey } };
    const expensive = action !== null && told.expensive?.includes(action) === true;
    return {
      taskQueue: expensive ? lane.queues.expensive : lane.queues.calls,
      priority: { fairnessKey, fairnessWeight: lane.weight },
      // Twice as long each time: whoever has waited long gives up its place in the queue ever more rarely.
      scheduleToStartTimeout: lane.takenWithinMs * 2 ** Math.min(looks, MOST_DOUBLED),
    };
  }
}

const MOST_DOUBLED = 14;

/** How an attempt came back that no worker has made; `undefined` for any other failure. */
function notTaken(error: unknown): { kind: 'waited' | 'refused'; seq: number } | undefined {
  if (!(error instanceof ActivityFailure)) return undefined;
  const { cause } = error;
  if (cause instanceof TimeoutFailure && cause.timeoutType === 'SCHEDULE_TO_START')
    return { kind: 'waited', seq: toldSeq(cause.lastHeartbeatDetails) };
  if (cause instanceof ApplicationFailure && cause.type === WRONG_LANE) return { kind: 'refused', seq: 0 };
  return undefined;
}

/** An attempt before it may have been made, and told the sequence of its admission. */
function toldSeq(details: unknown): number {
  const seq = (details as { seq?: unknown } | null | undefined)?.seq;
  return typeof seq === 'number' ? seq : 0;
}
