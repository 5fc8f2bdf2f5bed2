import type { z } from 'zod';
import {
  CallCapacityDocument,
  ProviderPoolDocument,
  QuotaClassDocument,
  TenantDocument,
} from '../contracts/documents';
import { type Mistake, closest, orderMistakes, quote } from './mistakes';
import { PolicyProfile, type ProfileParts, profileParts } from './profile';
import { redundantRules } from './redundant';
import { schemaMistakes } from './schema-mistakes';
import { type Locate, type YamlDocument, readYaml } from './yaml-text';

export { formatMistakes, type Mistake } from './mistakes';

/** Kinds of document, and the schema of each. */
const SCHEMAS = {
  CallCapacity: CallCapacityDocument,
  PolicyProfile,
  ProviderPool: ProviderPoolDocument,
  QuotaClass: QuotaClassDocument,
  Tenant: TenantDocument,
};
export type DocumentKind = keyof typeof SCHEMAS;
const isKind = (kind: unknown): kind is DocumentKind =>
  typeof kind === 'string' && Object.hasOwn(SCHEMAS, kind);

/**
 * A document that is right in itself; whether the agents and actions it names exist is for `checkDocuments` to say.
 * `text` is its own part of the text, and reads as the same document alone.
 */
export type ParsedDocument =
  | { readonly kind: 'CallCapacity'; readonly document: CallCapacityDocument; readonly text: string }
  | { readonly kind: 'PolicyProfile'; readonly document: PolicyProfile; readonly text: string }
  | { readonly kind: 'ProviderPool'; readonly document: ProviderPoolDocument; readonly text: string }
  | { readonly kind: 'QuotaClass'; readonly document: QuotaClassDocument; readonly text: string }
  | { readonly kind: 'Tenant'; readonly document: TenantDocument; readonly text: string };

/** A document as read, right or wrong: what a deeper check may look at, and where each part of it stands. */
export interface ReadDocument {
  readonly kind: DocumentKind;
  readonly raw: unknown;
  readonly locate: Locate;
  /** Absent where the document has mistakes. */
  readonly parsed?: ParsedDocument;
}

/**
 * Reads a YAML text of one or more documents of the kinds CallCapacity, PolicyProfile, ProviderPool, QuotaClass and Tenant. Answers either
 * all documents or all mistakes of all of them, each with its line; never throws on what the text says.
 * Refused beside wrong fields: fields that exist only in later versions, keys written twice, aliases, tags, texts
 * over 128 KiB and deep nesting.
 */
export function parseDocuments(
  text: string,
): { ok: true; documents: ParsedDocument[] } | { ok: false; mistakes: Mistake[] } {
  const { read, mistakes } = readDocuments(text);
  if (mistakes.length > 0) return { ok: false, mistakes: orderMistakes(mistakes) };
  return { ok: true, documents: read.flatMap(({ parsed }) => (parsed ? [parsed] : [])) };
}

/** {@link parseDocuments} with the wrong documents kept, for checks that go on past the first mistake. */
export function readDocuments(text: string): { read: ReadDocument[]; mistakes: Mistake[] } {
  const yaml = readYaml(text);
  const mistakes = [...yaml.mistakes];
  const read: ReadDocument[] = [];
  const names = new Set<string>();
  for (const document of yaml.documents) {
    const kind = kindOf(document, mistakes);
    if (kind === undefined) continue;
    const one = readOne(kind, document, mistakes);
    read.push(one);
    const name = nameOf(document.raw);
    if (name === undefined) continue;
    if (names.has(`${kind} ${name}`)) {
      mistakes.push({
        ...document.locate(['metadata', 'name']),
        path: 'metadata.name',
        message: `there are two documents of kind ${kind} with this name`,
        remedy: 'rename or remove one',
      });
    }
    names.add(`${kind} ${name}`);
  }
  return { read, mistakes };
}

function readOne(kind: DocumentKind, { raw, locate, text }: YamlDocument, mistakes: Mistake[]): ReadDocument {
  const before = mistakes.length;
  const parse = <T extends z.ZodType>(schema: T): z.output<T> | undefined => {
    const result = schema.safeParse(raw);
    if (!result.success) mistakes.push(...schemaMistakes(result.error, { schema, raw, locate }));
    return result.data;
  };
  const read = { kind, raw, locate };
  switch (kind) {
    case 'PolicyProfile': {
      const document = parse(PolicyProfile);
      const { rules } = profileParts(raw);
      mistakes.push(
        ...repeatedRuleIds(rules, locate),
        ...(tooManyNames(rules, locate) ?? redundantRules(rules, locate)),
      );
      return document && mistakes.length === before ? { ...read, parsed: { kind, document, text } } : read;
    }
    case 'CallCapacity': {
      const document = parse(CallCapacityDocument);
      return document ? { ...read, parsed: { kind, document, text } } : read;
    }
    case 'ProviderPool': {
      const document = parse(ProviderPoolDocument);
      return document ? { ...read, parsed: { kind, document, text } } : read;
    }
    case 'QuotaClass': {
      const document = parse(QuotaClassDocument);
      return document ? { ...read, parsed: { kind, document, text } } : read;
    }
    case 'Tenant': {
      const document = parse(TenantDocument);
      return document ? { ...read, parsed: { kind, document, text } } : read;
    }
  }
}

function kindOf({ raw, locate }: YamlDocument, mistakes: Mistake[]): DocumentKind | undefined {
  const kinds = Object.keys(SCHEMAS);
  const form = `write kind: ${kinds.slice(0, -1).join(', ')} or ${kinds.at(-1)}`;
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    const message = 'a document is a mapping of apiVersion, kind, metadata and the rest';
    mistakes.push({ ...locate([]), path: '', message, remedy: form });
    return undefined;
  }
  if (!Object.hasOwn(raw, 'kind')) {
    mistakes.push({ ...locate([]), path: 'kind', message: 'kind is missing', remedy: form });
    return undefined;
  }
  const { kind } = raw as { kind: unknown };
  if (isKind(kind)) return kind;
  const near = typeof kind === 'string' ? closest(kind, kinds) : undefined;
  mistakes.push({
    ...locate(['kind']),
    path: 'kind',
    message: `there is no kind ${quote(kind)}`,
    remedy: near ? `did you mean ${near}?` : form,
  });
  return undefined;
}

function nameOf(raw: unknown): string | undefined {
  const metadata = (raw as { metadata?: unknown } | null)?.metadata;
  const name =
    typeof metadata === 'object' && metadata !== null ? (metadata as { name?: unknown }).name : undefined;
  return typeof name === 'string' ? name : undefined;
}

/**
 * Names in all lists of all rules: six for each rule there may be. Each is looked at in every decision about an action that
 * its rule concerns, and compared with the names of other rules.
 */
const MAX_NAMES = 3_000;

function tooManyNames(rules: ProfileParts['rules'], locate: Locate): Mistake[] | undefined {
  const lists = rules.flatMap(({ rule }) => Object.values(rule).filter((value) => Array.isArray(value)));
  const names = lists.reduce((sum, list) => sum + list.length, 0);
  if (names <= MAX_NAMES) return undefined;
  const message = `these rules name ${names} agents, actions, workspaces, hosts and classes, more than ${MAX_NAMES}`;
  const remedy = 'use patterns, or split the profile in two';
  return [{ ...locate(['rules'], 'key'), path: 'rules', message, remedy }];
}

function repeatedRuleIds(rules: ProfileParts['rules'], locate: Locate): Mistake[] {
  const seen = new Set<string>();
  return rules.flatMap(({ index, rule }) => {
    if (!seen.has(rule.id)) {
      seen.add(rule.id);
      return [];
    }
    const path = ['rules', index, 'id'];
    const message = `the rule id ${quote(rule.id)} is used twice`;
    return [
      {
        ...locate(path),
        path: `rules[${index}].id`,
        message,
        remedy: 'give each rule an id of its own: decisions name it',
      },
    ];
  });
}
