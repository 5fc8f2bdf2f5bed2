import { createWriteStream, type WriteStream } from 'node:fs';

/** Where a log could not be written, its lines are lost for so long; then it is tried again. */
const TRY_AGAIN_MS = 5_000;

/**
 * The log of a process beside this one. A log that cannot be written (the disk is full) loses lines, which is said once, and ends
 * neither the process nor the one that keeps it.
 */
export class ChildLog {
  #stream: WriteStream | undefined;
  #failedAt = Number.NEGATIVE_INFINITY;
  #said = false;

  constructor(
    private readonly file: string,
    private readonly say: (line: string) => void,
  ) {}

  write(line: string): void {
    if (!this.#stream && performance.now() - this.#failedAt < TRY_AGAIN_MS) return;
    this.#stream ??= this.#open();
    this.#stream.write(`${line}\n`);
  }

  end(): void {
    this.#stream?.end();
  }

  #open(): WriteStream {
    const stream = createWriteStream(this.file, { flags: 'a', mode: 0o600 });
    stream.on('error', (error) => {
      this.#stream = undefined;
      this.#failedAt = performance.now();
      if (!this.#said) this.say(`${this.file} cannot be written: ${error.message}; its lines are lost`);
      this.#said = true;
    });
    return stream;
  }
}
