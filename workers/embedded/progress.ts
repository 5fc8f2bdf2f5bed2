import { SingleBar } from 'cli-progress';

/** How far a download is. */
export interface Progress {
  /** Bytes so far. */
  at(bytes: number): void;
  end(): void;
}

const MIB = 1_048_576;

/** A bar on a terminal; elsewhere a plain line every fifth of the way, so that logs stay readable. */
export function showProgress(what: string, totalBytes: number, say: (line: string) => void): Progress {
  const total = Math.max(1, Math.round(totalBytes / MIB));
  if (process.stdout.isTTY) {
    const bar = new SingleBar({
      format: `  ${what} {bar} {percentage}% {value}/{total} MiB`,
      hideCursor: true,
      clearOnComplete: true,
    });
    bar.start(total, 0);
    return { at: (bytes) => bar.update(Math.min(total, Math.round(bytes / MIB))), end: () => bar.stop() };
  }
  let said = 0;
  return {
    at(bytes): void {
      const fifths = Math.min(4, Math.floor((bytes / totalBytes) * 5));
      if (fifths <= said) return;
      said = fifths;
      say(`${what}: ${fifths * 20}% of ${total} MiB`);
    },
    end: () => undefined,
  };
}
