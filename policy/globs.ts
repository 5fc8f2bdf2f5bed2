import { z } from 'zod';

/**
 * Patterns of names and hosts: `*` stands for any characters, none included; everything else for itself; the whole
 * text must match. No other sign is special, so a pattern is matched in time linear in the text, never by a RegExp
 * (a RegExp made of a glob with eight stars took 86 s on 60 characters).
 */

const MAX_STARS = 8;
const fewStars = (pattern: string): boolean => pattern.split('*').length <= MAX_STARS + 1;
const glob = (shape: RegExp, message: string) =>
  z.string().regex(shape, message).refine(fewStars, `a pattern has at most ${MAX_STARS} stars`);

export const AgentGlob = glob(/^[a-z0-9_*]{1,64}$/, 'an agent pattern is 1 to 64 of a-z, 0-9, _ and *');
export const ActionGlob = glob(
  /^[a-z0-9_.*]{1,98}$/,
  'an action pattern is noun.verb, of a-z, 0-9, _, . and *',
);
export const ModelGlob = glob(
  /^[A-Za-z0-9._/*-]{1,140}$/,
  'a model pattern is provider/model, of letters, digits, . _ - / and *',
);

/** Of a destination: a host name or address in lower case, without scheme, port, path and trailing dot. */
export const HostGlob = z
  .string()
  .max(253)
  .transform((text) => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase()))
  .refine((text) => /^(?:[a-z0-9_.*-]+|\[[0-9a-f:.]+\])$/.test(text), {
    message: 'a destination is a host, with * for any characters: no scheme, port or path, names in punycode',
    abort: true,
  })
  .refine(fewStars, `a pattern has at most ${MAX_STARS} stars`)
  .refine((text) => text.includes('*') || canonicalHost(text) === text, {
    message: 'this is not how a host is written when a call is judged, so it would never match',
    params: { remedy: 'write addresses in full (127.0.0.1, [::1]) and names without a trailing dot' },
  });

/**
 * The one form of a host that rules are compared with: lower case, no trailing dot. `undefined` for whatever is no
 * plain host, and for what a URL parser would read as another one (`0x7f.1`, `2130706433`, full-width letters).
 */
export function canonicalHost(host: string): string | undefined {
  // The longest name that DNS can hold, and a trailing dot.
  if (host.length > 254) return undefined;
  const text = host.replace(/[A-Z]/g, (letter) => letter.toLowerCase()).replace(/\.$/, '');
  if (!/^(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])$/.test(text)) return undefined;
  const url = `http://${text}/`;
  return URL.canParse(url) && new URL(url).hostname === text ? text : undefined;
}

/** Whether the whole text matches the pattern. */
export function matches(pattern: string, text: string): boolean {
  const [first = '', ...parts] = pattern.split('*');
  const last = parts.pop();
  if (last === undefined) return pattern === text;
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last))
    return false;
  const end = text.length - last.length;
  let from = first.length;
  for (const part of parts) {
    const found = text.indexOf(part, from);
    if (found < 0 || found + part.length > end) return false;
    from = found + part.length;
  }
  return true;
}
