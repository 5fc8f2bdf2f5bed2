import { z } from 'zod';

/**
 * Patterns of names and hosts: `*` stands for any characters, none included; everything else for itself; the whole
 * text must match. No other sign is special, so a pattern is matched in time linear in the text, never by a RegExp
 * (a RegExp made of a glob with eight stars took 86 s on 60 characters).
 */

export const MAX_STARS = 8;
/** Whether a pattern has few enough stars to be matched quickly. */
export const fewStars = (pattern: string): boolean => pattern.split('*').length <= MAX_STARS + 1;
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
