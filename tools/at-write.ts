import { DecoratorHandler, type Dispatcher } from 'undici';
import type { HttpGrant } from '../contracts/http-port';

/** Asks once more when a request has its connection and is about to be written, and tells when it was. */
export class AtWrite {
  /** What it threw, if it did: then no byte was written. */
  refusal: unknown;
  /** The answer is not looked at before this; `undefined` until the request is written. */
  written: Promise<void> | undefined;
  constructor(
    private readonly grant: Pick<HttpGrant, 'beforeSend' | 'checkpoint'>,
    private readonly signal: AbortSignal,
  ) {}

  before(handler: Dispatcher.DispatchHandler): Dispatcher.DispatchHandler {
    const check = (): void => {
      try {
        this.signal.throwIfAborted();
        this.grant.beforeSend();
      } catch (error) {
        this.refusal = error;
        throw error;
      }
    };
    const checked: Dispatcher.DispatchHandler = new DecoratorHandler(handler);
    const start = checked.onRequestStart?.bind(checked);
    // undici calls this right before it writes the request (client-h1, writeH1); what it throws ends it unwritten.
    checked.onRequestStart = (controller, context) => {
      check();
      start?.(controller, context);
      this.written = this.#afterWrite();
      // Where the request fails, nobody waits for it.
      this.written.catch(() => undefined);
    };
    return checked;
  }

  /** The request is written in the turn that asked, and no answer is read before the next. */
  async #afterWrite(): Promise<void> {
    const { checkpoint } = this.grant;
    if (!checkpoint) return;
    await new Promise((resolve) => setImmediate(resolve));
    await checkpoint('after_send');
  }
}
