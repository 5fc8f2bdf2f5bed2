/** The longest URL that is judged; a longer one is no destination. In characters. */
export const MAX_URL_LENGTH = 8_192;

/**
 * The URL that a text names, where everybody reads the same one in it. `undefined` for every other text: another scheme
 * than http and https, user names, spaces, control characters and backslashes, and a host that is not written the way it
 * would be connected to (`0x7f.1`, `127.1`, full-width digits, percent signs, letters that a URL parser folds into
 * others, an address that is not in its short form). Capitals and one trailing dot are read as DNS reads them.
 */
export function plainUrl(text: string): URL | undefined {
  if (text.length > MAX_URL_LENGTH || !/^[^\s\\\p{Cc}]*$/u.test(text)) return undefined;
  const written = /^https?:\/\/([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?=[/?#]|$)/i.exec(text)?.[1];
  if (written === undefined || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  return hostOf(url) === written.toLowerCase().replace(/\.$/, '') ? url : undefined;
}

/** The host of a URL as policy compares it: lower case, without port and trailing dot. */
export const hostOf = (url: URL): string => url.hostname.toLowerCase().replace(/\.$/, '');

/** The port that a URL of http or https is connected at. */
export const portOf = (url: URL): number =>
  url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port);
