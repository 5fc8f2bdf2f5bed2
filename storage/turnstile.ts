import { StorageBusy } from '../contracts/storage-busy';

export interface TurnstileOptions {
  /** Pieces of work at once, per key. */
  readonly width: number;
  /** That many may wait per key; the next is refused at once. */
  readonly queue: number;
  /** How long one waits, milliseconds. */
  readonly waitMs: number;
}

interface Waiter {
  readonly go: () => void;
  readonly timer: NodeJS.Timeout;
}
interface Lane {
  inside: number;
  readonly waiting: Waiter[];
}

/**
 * Lets so many in at once per key (a tenant), the others wait in order. A key that floods fills its own queue and
 * nobody else's: of the shared connections it never holds more than its width.
 */
export class Turnstile {
  readonly #lanes = new Map<string, Lane>();

  constructor(private readonly options: TurnstileOptions) {}

  /** Throws `StorageBusy` when the queue is full or the wait too long; the work has not begun then. */
  async pass<T>(key: string, work: () => Promise<T>): Promise<T> {
    const lane = this.#lanes.get(key) ?? { inside: 0, waiting: [] };
    this.#lanes.set(key, lane);
    if (lane.inside < this.options.width) lane.inside += 1;
    else await this.#wait(key, lane);
    try {
      return await work();
    } finally {
      const next = lane.waiting.shift();
      if (next) {
        clearTimeout(next.timer);
        next.go();
      } else {
        lane.inside -= 1;
        if (lane.inside === 0) this.#lanes.delete(key);
      }
    }
  }

  /** Keys with work inside or waiting. */
  get busyKeys(): number {
    return this.#lanes.size;
  }

  #wait(key: string, lane: Lane): Promise<void> {
    const { queue, waitMs } = this.options;
    if (lane.waiting.length >= queue) {
      return Promise.reject(new StorageBusy(`${queue} statements of ${key} wait already: try again later`));
    }
    return new Promise((go, fail) => {
      const timer = setTimeout(() => {
        const index = lane.waiting.indexOf(waiter);
        if (index >= 0) lane.waiting.splice(index, 1);
        fail(new StorageBusy(`a statement of ${key} waited ${waitMs} ms for its turn: try again later`));
      }, waitMs);
      const waiter: Waiter = { go, timer };
      lane.waiting.push(waiter);
    });
  }
}
