import { z } from 'zod';
import { MAX_STARS, canonicalHost, fewStars } from './globs';

/** What a rule says of a destination: hosts, and the one way to them if it names any part of it. */
export interface DestinationPattern {
  /** A pattern. */
  readonly host: string;
  readonly scheme: 'http' | 'https' | undefined;
  readonly port: number | undefined;
}

const FORM = /^(?:(https?):\/\/)?([a-z0-9_.*-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?$/;
const MAX_PORT = 65_535;

/** The parts of a destination that `DestinationGlob` has checked. */
export function destinationPattern(text: string): DestinationPattern {
  const [, scheme, host = '', port] = FORM.exec(text) ?? [];
  return {
    host,
    scheme: scheme === 'http' || scheme === 'https' ? scheme : undefined,
    port: port === undefined ? undefined : Number(port),
  };
}

/**
 * Of a destination: a host name or address in lower case, with `*` for any characters, without trailing dot and path;
 * with a scheme before it or a port after it where the rule is about these as well.
 */
export const DestinationGlob = z
  .string()
  // Of the longest host that DNS can hold, and both parts.
  .max(253 + 'https://'.length + ':65535'.length)
  .transform((text) => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase()))
  .refine((text) => FORM.test(text) && (destinationPattern(text).port ?? 0) <= MAX_PORT, {
    message:
      'a destination is a host, with * for any characters, names in punycode: no path; before it http:// or https://, after it :port, if they matter',
    abort: true,
  })
  .refine(fewStars, `a pattern has at most ${MAX_STARS} stars`)
  .refine(
    (text) => {
      const { host } = destinationPattern(text);
      return host.includes('*') || canonicalHost(host) === host;
    },
    {
      message: 'this is not how a host is written when a call is judged, so it would never match',
      params: { remedy: 'write addresses in full (127.0.0.1, [::1]) and names without a trailing dot' },
    },
  );

/** A text by which two checked destinations can be compared as patterns: only those of one way cover one another. */
export function comparable(text: string): string {
  const { scheme = '', port = '', host } = destinationPattern(text);
  return `${scheme}:${port}:${host}`;
}
