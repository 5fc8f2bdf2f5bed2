/** Cuts the bytes of an HTTP/1.1 connection into whole messages, for a proxy that treats each one apart. */
export class HttpFrames {
  #bytes = Buffer.alloc(0);

  /** Adds what arrived and answers the messages that are whole now, byte for byte. */
  push(chunk: Buffer): Buffer[] {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    const whole: Buffer[] = [];
    for (;;) {
      const length = lengthOf(this.#bytes);
      if (length === undefined || length > this.#bytes.length) return whole;
      whole.push(this.#bytes.subarray(0, length));
      this.#bytes = this.#bytes.subarray(length);
    }
  }
}

const HEAD_END = '\r\n\r\n';
const LAST_CHUNK = '0\r\n\r\n';

/** Bytes of the first message; `undefined` while that cannot be told. Answers to HEAD, and trailers, are not understood. */
function lengthOf(bytes: Buffer): number | undefined {
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const head = bytes.toString('latin1', 0, headEnd).toLowerCase();
  const bodyStart = headEnd + HEAD_END.length;
  if (/\r\ntransfer-encoding:\s*chunked/.test(head)) return chunkedEnd(bytes, bodyStart);
  return bodyStart + Number(/\r\ncontent-length:\s*(\d+)/.exec(head)?.[1] ?? 0);
}

function chunkedEnd(bytes: Buffer, from: number): number | undefined {
  for (let at = from; ;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16);
    if (size === 0) return at + LAST_CHUNK.length;
    at = lineEnd + 2 + size + 2;
    if (at > bytes.length) return undefined;
  }
}

/** The head of a message, names in lower case. */
export function headOf(message: Buffer): { start: string; headers: ReadonlyMap<string, string> } {
  const [start = '', ...lines] = message.toString('latin1', 0, message.indexOf(HEAD_END)).split('\r\n');
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  return { start, headers };
}

/** The body of a message that is not chunked. */
export const bodyOf = (message: Buffer): string =>
  message.toString('utf8', message.indexOf(HEAD_END) + HEAD_END.length);
