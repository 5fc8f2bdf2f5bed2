import { HttpForbidden } from '../contracts/http-errors';
import type { HttpGrant } from '../contracts/http-port';
import { plainUrl } from '../contracts/http-url';

/** A place that one request may be sent to. */
export interface Place {
  readonly url: URL;
  /** Whether it is still the granted origin: only there go the credential and, for a connection, private addresses. */
  readonly granted: boolean;
}

/** How often one read follows a redirect. */
export const MAX_HOPS = 5;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Where the requests of one grant may go. Everything that is not sure is thrown as `HttpForbidden`, unsent. */
export class Reach {
  /** How messages name the place: a host out of arguments is the model's own words, which no message repeats. */
  readonly host: string;

  constructor(
    private readonly grant: Pick<HttpGrant, 'privateGranted' | 'mayGo'>,
    private readonly base: URL,
  ) {
    this.host = grant.privateGranted ? base.host : 'the destination';
  }

  /** The place that an action's path means: below the path of a connection, anywhere at an address out of arguments. */
  at(path: string): Place {
    if (!this.grant.privateGranted) return this.exactly(path === '' ? this.base.href : path);
    // Dot segments, encoded separators and backslashes would leave the connection's own path; so would what the URL
    // parser drops in silence, which is why the parsed path is held against the base once more.
    if (/(^|\/)(\.|%2e){1,2}(\/|\?|$)|[\\#]|%2f|%5c|%00/i.test(path) || /\p{Cc}/u.test(path))
      throw new HttpForbidden(`a path to ${this.host} is not plain; nothing was sent`);
    const { url } = this.exactly(path.replace(/^\/+/, ''), withSlash(this.base));
    if (!this.#below(url))
      throw new HttpForbidden(`a path would leave that of ${this.host}; nothing was sent`);
    return { url, granted: true };
  }

  /** The place that a whole URL means, at the granted origin. */
  exactly(text: string, from: URL = this.base): Place {
    const url = URL.canParse(text, from.href) ? new URL(text, from) : undefined;
    if (url?.origin !== this.base.origin || url.username || url.password)
      throw new HttpForbidden(`a request would leave ${this.host} for another destination; nothing was sent`);
    return { url, granted: true };
  }

  /**
   * Where a redirect of a read leads, judged like the first address; `undefined` where the answer is none, or is not to
   * be followed. Another origin is policy's to allow, and never gets credentials or private addresses: whoever answered
   * has named it. What has once left does not come back to be granted.
   */
  onward(from: Place, status: number, location: string | undefined): Place | undefined {
    if (!this.grant.mayGo || !REDIRECTS.has(status) || location === undefined) return undefined;
    const named = /^[\x21-\x5b\x5d-\x7e]+$/.test(location) && URL.canParse(location, from.url.href);
    const url = named ? plainUrl(new URL(location, from.url.href).href) : undefined;
    if (!url) throw new HttpForbidden(`${this.host} redirects to no plain URL; it was not followed`);
    if (url.origin !== from.url.origin) {
      if (!this.grant.mayGo(url))
        throw new HttpForbidden(
          `${this.host} redirects to where policy does not let it go; it was not followed`,
        );
      return { url, granted: false };
    }
    if (from.granted && this.grant.privateGranted && !this.#below(url))
      throw new HttpForbidden(`${this.host} redirects out of its own path; it was not followed`);
    return { url, granted: from.granted };
  }

  #below = (url: URL): boolean => url.pathname.startsWith(withSlash(this.base).pathname);
}

const withSlash = (url: URL): URL => (url.pathname.endsWith('/') ? url : new URL(`${url.pathname}/`, url));
