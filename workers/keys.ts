import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { generateEnvelopeKeys } from '../secrets/envelope-keys';
import { writePrivate } from './embedded/private-files';

/** The embedded stack's own token issuer: it exists on this machine alone, so its name resolves nowhere. */
export const DEV_ISSUER = 'urn:bulkhead:dev-issuer';

/** Where a stack's keys lie. Each file is readable by its owner only. */
export interface KeyFiles {
  readonly masterKey: string;
  readonly envelopeSigningKey: string;
  readonly envelopeJwks: string;
  readonly devIssuerKey: string;
  readonly devIssuerJwks: string;
  readonly appPassword: string;
  readonly operatorPassword: string;
}

export function keyFiles(stateDir: string): KeyFiles {
  const at = (name: string): string => path.join(stateDir, 'keys', name);
  return {
    masterKey: at('master.key'),
    envelopeSigningKey: at('envelope.jwk.json'),
    envelopeJwks: at('envelope.jwks.json'),
    devIssuerKey: at('token-issuer.jwk.json'),
    devIssuerJwks: at('token-issuer.jwks.json'),
    appPassword: at('database-app.password'),
    operatorPassword: at('database-operator.password'),
  };
}

/**
 * Makes the keys that an embedded stack needs and does not have yet. Existing ones are never replaced: with another
 * master key the tenants' data could not be read, with another envelope key open runs would be refused.
 * Throws where one half of a pair is missing, with the remedy.
 */
export async function ensureKeys(stateDir: string): Promise<{ files: KeyFiles; made: string[] }> {
  const files = keyFiles(stateDir);
  const made: string[] = [];
  const make = (file: string, text: string): void => {
    writePrivate(file, text);
    made.push(path.basename(file));
  };
  if (!existsSync(files.masterKey)) make(files.masterKey, `${randomBytes(32).toString('base64')}\n`);
  for (const file of [files.appPassword, files.operatorPassword]) {
    if (!existsSync(file)) make(file, `${randomBytes(24).toString('base64url')}\n`);
  }
  await ensurePair(files.envelopeSigningKey, files.envelopeJwks, make);
  await ensurePair(files.devIssuerKey, files.devIssuerJwks, make);
  return { files, made };
}

async function ensurePair(
  privateFile: string,
  publicFile: string,
  make: (file: string, text: string) => void,
): Promise<void> {
  const [privateThere, publicThere] = [existsSync(privateFile), existsSync(publicFile)];
  if (privateThere && publicThere) return;
  // The public half is written first, so a start that was cut short leaves no private key behind.
  if (privateThere)
    throw new Error(
      `${publicFile} is missing beside ${privateFile}: restore it, or remove both to lose open runs and tokens`,
    );
  const { signingKey, jwks } = await generateEnvelopeKeys();
  make(publicFile, `${JSON.stringify(jwks, null, 2)}\n`);
  make(privateFile, `${JSON.stringify(signingKey)}\n`);
}

/** Keys that others than their owner can read. */
export function openKeys(stateDir: string): string[] {
  const files: string[] = Object.values<string>({ ...keyFiles(stateDir) });
  return files.filter((file) => existsSync(file) && (statSync(file).mode & 0o077) !== 0);
}

/** A password file's content, without its line end. */
export const readPassword = (file: string): string => readFileSync(file, 'utf8').trim();
