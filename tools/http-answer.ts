import type { Dispatcher } from 'undici';
import { HttpUnavailable } from '../contracts/http-errors';
import { retryAfterMs } from '../contracts/retry-after';

/** Of a body, as it comes over the wire: encodings are not asked for, and not read. */
export const MAX_ANSWER_BYTES = 1_048_576;

/** An answer that was read to its end. */
export interface ReadAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** Reads an answer to its end. Throws `HttpUnavailable` for one that is too large or compressed: read, it could be any size. */
export async function readAnswer(
  { statusCode, headers, body }: Dispatcher.ResponseData,
  host: string,
): Promise<ReadAnswer> {
  const flatHeaders = flat(headers);
  const refuse = (message: string): never => {
    body.on('error', () => undefined).destroy();
    throw new HttpUnavailable(message);
  };
  const encoding = flatHeaders['content-encoding']?.trim().toLowerCase() ?? '';
  if (encoding !== '' && encoding !== 'identity')
    refuse(`${host} answered in an encoding that was not asked for`);
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) refuse(`${host} answered more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return { status: statusCode, headers: flatHeaders, text: Buffer.concat(chunks).toString('utf8') };
}

/** The value of an answer: parsed where it says that it is JSON and is, else its text. */
export function parseBody({ text, headers }: ReadAnswer): unknown {
  if (!headers['content-type']?.includes('json') || text === '') return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Milliseconds after which the system wants to be asked again, where it says so. */
export const retryAfter = ({ headers }: ReadAnswer): number | undefined =>
  retryAfterMs(headers['retry-after']);

/**
 * A 4xx says that nothing was applied, but for a time-out (408), and too early (425). A redirect of a write, never
 * followed, often says that it was (303 after a POST).
 */
export const appliedNothing = (status: number): boolean =>
  status >= 400 && status < 500 && status !== 408 && status !== 425;

/** Errors of a connection that was never made: no byte of the request can have left. */
export function neverLeft(error: unknown): boolean {
  const code = codeOf(error);
  if (['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'].includes(code)) return true;
  // These come from a broken connection too.
  const connecting = error instanceof Error && 'syscall' in error && error.syscall === 'connect';
  return connecting && ['EHOSTUNREACH', 'ENETUNREACH'].includes(code);
}

/** What may be told of an error that is not ours: its code, or its name. */
export function codeOf(error: unknown): string {
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string')
    return error.code;
  return error instanceof Error ? error.name : 'unknown';
}

function flat(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
    ),
  );
}
