import { createCipheriv, createDecipheriv, createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { digestOfTuple } from '../contracts/digest';
import type { SealedCredential } from '../contracts/rows';
import type { TenantScope } from '../contracts/scope';

/** The key encryption key, from outside (promise S4). Wraps tenants' data keys and nothing else. */
export interface MasterKey {
  /** Of the key's own digest, so that a key and its name cannot be mixed up. */
  readonly id: string;
  readonly bytes: Buffer;
}

/** A sealed thing did not open: another key, tenant, capability or version, or altered bytes. Which one is not told. */
export class SealBroken extends Error {
  override readonly name = 'SealBroken';
}

type Owner = Pick<TenantScope, 'tenantId' | 'environment'>;

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** First byte of everything sealed, so that another scheme can follow. */
const FORMAT = 1;

/** A master key from its 32 bytes, or their base64. Throws a TypeError that does not repeat the key. */
export function masterKeyOf(key: Buffer | string): MasterKey {
  const bytes = typeof key === 'string' ? Buffer.from(key, 'base64') : Buffer.from(key);
  if (bytes.length !== KEY_BYTES)
    throw new TypeError(
      `a master key is ${KEY_BYTES} bytes, in base64: make one with \`openssl rand -base64 32\``,
    );
  const id = createHash('sha256')
    .update('bulkhead/master-key-id/1\0')
    .update(bytes)
    .digest('hex')
    .slice(0, 16);
  return { id, bytes };
}

/**
 * Seals credentials under the tenant's data key, which is made on the first one and wrapped by the first of the master
 * keys. The function of `storage/operator.ts` that a composition root passes on.
 * Throws a TypeError on a secret that no HTTP header can carry, `SealBroken` where the tenant's key does not open.
 */
export function createSealer(masterKeys: readonly MasterKey[]) {
  const [current] = masterKeys;
  if (!current) throw new TypeError('sealing needs a master key');
  return (request: {
    readonly scope: Owner;
    readonly capability: string;
    readonly version: number;
    readonly secret: string;
    readonly existing: { readonly wrappedKey: Buffer; readonly keyId: string } | null;
  }): { ciphertext: Buffer; wrappedKey: Buffer; keyId: string } => {
    const { scope, capability, version, secret, existing } = request;
    // Checked here, since whoever finds out at the time of sending may print it.
    if (!/^[\x21-\x7e]{1,8192}$/.test(secret)) {
      throw new TypeError(
        `the secret for ${capability} is not 1 to 8192 visible ASCII characters: no HTTP header can carry it`,
      );
    }
    const dataKey = existing ? unwrap(masterKeys, scope, existing) : randomBytes(KEY_BYTES);
    const plain = Buffer.from(secret, 'utf8');
    try {
      const ciphertext = encrypt(dataKey, plain, credentialTuple(scope, capability, version));
      if (existing) return { ciphertext, wrappedKey: existing.wrappedKey, keyId: existing.keyId };
      return {
        ciphertext,
        wrappedKey: encrypt(current.bytes, dataKey, keyTuple(scope, current.id)),
        keyId: current.id,
      };
    } finally {
      dataKey.fill(0);
      plain.fill(0);
    }
  };
}

/**
 * Opens a credential as stored. The caller zeroes what it gets. Throws {@link SealBroken} on anything but exactly the
 * ciphertext that was made for this tenant, environment, capability and version.
 */
export function openCredential(
  masterKeys: readonly MasterKey[],
  owner: Owner,
  sealed: SealedCredential,
): Buffer {
  const dataKey = unwrap(masterKeys, owner, sealed);
  try {
    return decrypt(dataKey, sealed.ciphertext, credentialTuple(owner, sealed.capability, sealed.version));
  } finally {
    dataKey.fill(0);
  }
}

/** Whether what is sealed is this very secret; `false` too where it does not open. */
export function createComparison(masterKeys: readonly MasterKey[]) {
  return (owner: Owner, sealed: SealedCredential, secret: string): boolean => {
    const given = Buffer.from(secret, 'utf8');
    let plain: Buffer | undefined;
    try {
      plain = openCredential(masterKeys, owner, sealed);
      return plain.length === given.length && timingSafeEqual(plain, given);
    } catch (error) {
      if (error instanceof SealBroken) return false;
      throw error;
    } finally {
      plain?.fill(0);
      given.fill(0);
    }
  };
}

function unwrap(
  masterKeys: readonly MasterKey[],
  owner: Owner,
  wrapped: { wrappedKey: Buffer; keyId: string },
): Buffer {
  const master = masterKeys.find((key) => key.id === wrapped.keyId);
  if (!master)
    throw new SealBroken(
      `the data key is wrapped by master key ${wrapped.keyId}, which is not among those configured`,
    );
  return decrypt(master.bytes, wrapped.wrappedKey, keyTuple(owner, master.id));
}

/** What a ciphertext is bound to: moved to another row, it does not open. */
const credentialTuple = (owner: Owner, capability: string, version: number): string[] => [
  'bulkhead/credential/1',
  owner.tenantId,
  owner.environment,
  capability,
  String(version),
];
const keyTuple = (owner: Owner, keyId: string): string[] => [
  'bulkhead/data-key/1',
  owner.tenantId,
  owner.environment,
  keyId,
];

function encrypt(key: Buffer, plain: Buffer, bound: string[]): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(digestOfTuple(bound), 'hex'));
  const body = Buffer.concat([cipher.update(plain), cipher.final()]);
  return Buffer.concat([Buffer.of(FORMAT), iv, cipher.getAuthTag(), body]);
}

function decrypt(key: Buffer, sealed: Buffer, bound: string[]): Buffer {
  if (sealed[0] !== FORMAT || sealed.length < 1 + IV_BYTES + TAG_BYTES)
    throw new SealBroken('this is nothing sealed here');
  const iv = sealed.subarray(1, 1 + IV_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(digestOfTuple(bound), 'hex'));
  decipher.setAuthTag(sealed.subarray(1 + IV_BYTES, 1 + IV_BYTES + TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(sealed.subarray(1 + IV_BYTES + TAG_BYTES)), decipher.final()]);
  } catch {
    throw new SealBroken('it was sealed for something else, or altered');
  }
}
