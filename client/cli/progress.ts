import { SingleBar } from 'cli-progress';

/** How far a long piece of work is: a bar on a terminal, nothing elsewhere. Standard output stays the command's. */
export interface Progress {
  at(done: number): void;
  end(): void;
}

/** `most`: the end that the work surely comes to, if not before. */
export function showProgress(what: string, unit: string, most: number): Progress {
  if (!process.stderr.isTTY) return { at: () => undefined, end: () => undefined };
  const bar = new SingleBar({
    format: `  ${what} {bar} {value} ${unit} of at most {total}`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  bar.start(most, 0);
  return { at: (done) => bar.update(Math.min(done, most)), end: () => bar.stop() };
}
