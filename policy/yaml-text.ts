import {
  CST,
  Lexer,
  LineCounter,
  type Document,
  type Node,
  isMap,
  isScalar,
  isSeq,
  parseAllDocuments,
  visit,
} from 'yaml';
import type { Mistake } from './mistakes';

/** Large enough for every rule that a profile may have. The parser's look for repeated keys is quadratic. */
const MAX_LENGTH = 128 * 1024;
/** Brackets within brackets, and `-`, `?` or `:` on one line. Documents nest five deep. */
const MAX_NESTING = 32;
const MAX_INDENT = 200;
const MAX_DOCUMENTS = 200;
/** Words, marks and spaces between them: about three times what a text of that length has. */
const MAX_TOKENS = 40_000;

export interface Place {
  readonly line: number;
  readonly column: number;
}
/** Where the value at a path stands, or its key; the nearest enclosing one if it is absent. */
export type Locate = (path: readonly PropertyKey[], what?: 'value' | 'key') => Place;

/** One YAML document: its plain value, where its parts stand in the whole text, and its own part of that text. */
export interface YamlDocument {
  readonly raw: unknown;
  readonly locate: Locate;
  readonly text: string;
}

/**
 * Reads YAML 1.2 in its core schema, without aliases, tags, merges and `%YAML 1.1`. Documents with nothing in them
 * are passed over. A document that cannot be read is left out of `documents`; its mistakes say why.
 */
export function readYaml(text: string): { documents: YamlDocument[]; mistakes: Mistake[] } {
  const refused = (message: string, remedy: string, { line, column }: Place = { line: 1, column: 1 }) => ({
    documents: [],
    mistakes: [{ line, column, path: '', message, remedy }],
  });
  if (text.length > MAX_LENGTH) {
    return refused(
      `this text has ${text.length} characters, more than ${MAX_LENGTH}`,
      'split it into several',
    );
  }
  const excess = excessOf(text);
  if (excess) return refused(excess.message, 'write it flatter, or split it into several', excess);

  const counter = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: counter, prettyErrors: false, merge: false });
  const all = Array.isArray(parsed) ? parsed : [];
  if (all.length > MAX_DOCUMENTS) {
    return refused(
      `this text has ${all.length} documents, more than ${MAX_DOCUMENTS}`,
      'split it into several',
    );
  }
  const documents: YamlDocument[] = [];
  const mistakes: Mistake[] = [];
  for (const document of all) {
    const wrong = formMistakes(document, counter);
    mistakes.push(...wrong);
    if (isEmpty(document) || !isReadable(document)) continue;
    documents.push({
      raw: document.toJS({ maxAliasCount: 0 }),
      locate: locator(document, counter),
      text: text.slice(document.range[0], document.range[1]),
    });
  }
  if (documents.length === 0 && mistakes.length === 0) {
    return refused('there is no document in this text', 'write one that begins with apiVersion: bulkhead/v1');
  }
  return { documents, mistakes };
}

/** A key written twice leaves the rest to be read; broken syntax, aliases and odd keys leave nothing to rely on. */
function isReadable(document: Document.Parsed): boolean {
  let odd = 0;
  visit(document, {
    Alias: () => void (odd += 1),
    Pair: (_, { key }) => void (odd += isScalar(key) ? 0 : 1),
  });
  return odd === 0 && document.errors.every(({ code }) => code === 'DUPLICATE_KEY');
}

const isEmpty = (document: Document.Parsed): boolean =>
  document.contents === null || (isScalar(document.contents) && document.contents.value === null);

function placeOf(counter: LineCounter, offset: number): Place {
  const { line, col } = counter.linePos(offset);
  return { line: Math.max(1, line), column: Math.max(1, col) };
}

function formMistakes(document: Document.Parsed, counter: LineCounter): Mistake[] {
  const mistakes: Mistake[] = [...document.errors, ...document.warnings].map(({ code, message, pos }) => ({
    ...placeOf(counter, pos[0]),
    path: '',
    message:
      code === 'DUPLICATE_KEY'
        ? 'this key is written twice in one mapping'
        : (message.split('\n')[0] ?? message),
    remedy:
      code === 'DUPLICATE_KEY'
        ? 'keep one of the two'
        : code === 'TAG_RESOLVE_FAILED'
          ? 'remove the tag: documents hold plain values'
          : 'correct the YAML here',
  }));
  const refuse = (node: Node | null, message: string, remedy: string): void => {
    mistakes.push({ ...placeOf(counter, node?.range?.[0] ?? document.range[0]), path: '', message, remedy });
  };
  if (document.directives?.yaml.explicit && document.directives.yaml.version !== '1.2') {
    refuse(null, 'documents are YAML 1.2', 'remove the %YAML line');
  }
  visit(document, {
    Alias: (_, node) => refuse(node, 'aliases are not supported', 'write the value out where it is used'),
    Node: (_, node) => {
      if (node.tag?.startsWith('tag:yaml.org,2002:binary'))
        refuse(node, 'tags are not supported', 'write a plain value');
    },
    Pair: (_, { key }) => {
      if (!isScalar(key)) refuse(key as Node | null, 'a key is a plain word', 'write a word and a colon');
    },
  });
  return mistakes;
}

function locator(document: Document.Parsed, counter: LineCounter): Locate {
  return (path, what = 'value') => {
    let node: unknown = document.contents;
    let offset = document.contents?.range[0] ?? document.range[0];
    for (const [depth, part] of path.entries()) {
      let key: unknown;
      if (isMap(node)) {
        const pair = node.items.findLast(
          (item) => isScalar(item.key) && String(item.key.value) === String(part),
        );
        if (!pair) break;
        key = pair.key;
        node = pair.value;
      } else if (isSeq(node)) {
        node = node.items[Number(part)];
      } else {
        break;
      }
      const spot = what === 'key' && depth === path.length - 1 && key ? key : (node ?? key);
      offset = (spot as Node | undefined)?.range?.[0] ?? offset;
    }
    return placeOf(counter, offset);
  };
}

/**
 * Where a text nests deeper or has more parts than any document does, found by the lexer alone: the parser behind
 * it recurses, and a stack that runs out within it can end the process.
 */
function excessOf(text: string): (Place & { message: string }) | undefined {
  let [line, tokens, brackets, marks, lineStart] = [1, 0, 0, 0, true];
  for (const token of new Lexer().lex(text)) {
    const type = CST.tokenType(token);
    if (type === 'flow-map-start' || type === 'flow-seq-start') brackets += 1;
    else if (type === 'flow-map-end' || type === 'flow-seq-end') brackets = Math.max(0, brackets - 1);
    else if (type === 'doc-start' || type === 'doc-end') brackets = 0;
    else if (type === 'seq-item-ind' || type === 'explicit-key-ind') marks += 1;
    else if (type === 'map-value-ind' && brackets === 0) marks += 1;
    const indent = type === 'space' && lineStart ? token.length : 0;
    tokens += 1;
    if (tokens > MAX_TOKENS) return { line, column: 1, message: 'this text has too many parts' };
    if (brackets > MAX_NESTING || marks > MAX_NESTING || indent > MAX_INDENT) {
      return { line, column: 1, message: 'this is nested too deeply' };
    }
    const newlines = token.split('\n').length - 1;
    lineStart = token.endsWith('\n');
    if (newlines > 0) marks = 0;
    line += newlines;
  }
  return undefined;
}
