import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { z } from 'zod';

/** Who a bearer token speaks for. The file holds digests: a system never has to keep a token to know it. */
export const Token = z.strictObject({
  /** Shown in the effect log in place of the token. */
  name: z.string().min(1).max(100),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  account: z.string().min(1).max(100),
  /** What it may do: `read`, `write`, `refund`, `send`, `generate`, or `intake`, which customers' side uses. */
  may: z.array(z.string().min(1)).min(1),
});
export type Token = z.infer<typeof Token>;

export const TokenFile = z.strictObject({ tokens: z.array(Token) });
export type TokenFile = z.infer<typeof TokenFile>;

/** sha256 of a token, hex, as the token file holds it. */
export const tokenDigest = (token: string): string =>
  createHash('sha256').update(token, 'utf8').digest('hex');

/**
 * The tokens of a file, looked up by the `Authorization` header. A changed file counts from the next request, so a
 * rotated token needs no restart. Throws where the file is absent or malformed: a system without tokens serves nobody.
 */
export function tokenBook(file: string): (authorization: string | undefined) => Token | undefined {
  let readAt = -1;
  let tokens: Token[] = [];
  return (authorization) => {
    const { mtimeMs } = statSync(file);
    if (mtimeMs !== readAt) {
      tokens = TokenFile.parse(JSON.parse(readFileSync(file, 'utf8'))).tokens;
      readAt = mtimeMs;
    }
    const presented = /^Bearer ([\x21-\x7e]{1,400})$/.exec(authorization ?? '')?.[1];
    if (presented === undefined) return undefined;
    const digest = Buffer.from(tokenDigest(presented), 'hex');
    return tokens.find((token) => timingSafeEqual(Buffer.from(token.sha256, 'hex'), digest));
  };
}
