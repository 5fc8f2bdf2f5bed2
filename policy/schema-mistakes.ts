import { z } from 'zod';
import { type Mistake, closest, pathText, quote } from './mistakes';
import type { Locate } from './yaml-text';

const LATER = 'correct it: docs/policies.md shows the form';

interface Subject {
  readonly schema: z.ZodType;
  readonly raw: unknown;
  readonly locate: Locate;
}

/** Every issue of a schema as a mistake with its place, and a remedy that names what was most likely meant. */
export function schemaMistakes(error: z.ZodError, subject: Subject): Mistake[] {
  return error.issues.flatMap((issue) => issueMistakes(issue, subject));
}

function issueMistakes(issue: z.core.$ZodIssue, { schema, raw, locate }: Subject): Mistake[] {
  const { path } = issue;
  const at = (message: string, remedy: string, place = locate(path)): Mistake[] => [
    { ...place, path: pathText(path), message, remedy },
  ];
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = knownKeys(schema, path);
      return issue.keys.map((key) => {
        const place = { ...locate([...path, key], 'key'), path: pathText([...path, key]) };
        const near = closest(key, known);
        const remedy = near ? `did you mean ${near}?` : `remove it, or write one of ${known.join(', ')}`;
        return { ...place, message: `there is no field ${quote(key)} here`, remedy };
      });
    }
    case 'invalid_value': {
      const value = valueAt(raw, path);
      const choices = issue.values.map(String);
      const form = `write ${choices.length === 1 ? '' : 'one of '}${choices.join(', ')}`;
      if (value === undefined) return at(`${String(path.at(-1) ?? 'it')} is missing`, form);
      const near = typeof value === 'string' ? closest(value, choices) : undefined;
      return at(
        `${describe(value)} cannot stand here`,
        near && choices.length > 1 ? `did you mean ${near}?` : form,
      );
    }
    case 'invalid_type': {
      const value = valueAt(raw, path);
      if (value === undefined)
        return at(`${String(path.at(-1) ?? 'it')} is missing`, `add it, as ${aWord(issue.expected)}`);
      const said = issue.message.startsWith('Invalid input') ? `this is ${describe(value)}` : issue.message;
      return at(said, `write ${aWord(issue.expected)}`);
    }
    case 'invalid_key':
      return at(issue.issues[0]?.message ?? issue.message, LATER, locate(path, 'key'));
    case 'custom': {
      const remedy: unknown = issue.params?.['remedy'];
      return at(issue.message, typeof remedy === 'string' ? remedy : LATER);
    }
    default:
      return at(issue.message, LATER);
  }
}

function aWord(expected: string): string {
  const words: Record<string, string> = {
    array: 'a list',
    object: 'a mapping',
    record: 'a mapping',
    int: 'a whole number',
  };
  return words[expected] ?? `a ${expected}`;
}

function describe(value: unknown): string {
  if (value === null) return 'an empty value';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  return `the ${typeof value} ${quote(value)}`;
}

function valueAt(raw: unknown, path: readonly PropertyKey[]): unknown {
  let value = raw;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

/** Field names that a schema has at a path, read from its JSON Schema. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  type Fields = { properties?: Record<string, Fields>; items?: Fields; additionalProperties?: Fields };
  let fields = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Fields | undefined;
  for (const part of path) {
    fields =
      typeof part === 'number'
        ? fields?.items
        : (fields?.properties?.[String(part)] ?? fields?.additionalProperties);
  }
  return Object.keys(fields?.properties ?? {});
}
