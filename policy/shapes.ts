import type { CedarValueJson, Type, TypeOfAttribute } from '@cedar-policy/cedar-wasm/nodejs';
import { z } from 'zod';

/**
 * What of a zod schema rules can read: whole numbers, strings, booleans, lists of such, nested objects. The rest
 * (fractions, unions, free-form objects) is left out, with the reason, and no rule may name it.
 */
export type Shape =
  | { readonly kind: 'string' | 'long' | 'boolean' }
  | { readonly kind: 'set'; readonly element: Shape }
  | RecordShape;
export interface RecordShape {
  readonly kind: 'record';
  readonly fields: ReadonlyMap<string, Field>;
  /** Names that the schema has and rules cannot read, with the reason in words. */
  readonly leftOut: ReadonlyMap<string, string>;
}
export interface Field {
  readonly shape: Shape;
  readonly required: boolean;
}

export const STRING: Shape = { kind: 'string' };
export const BOOLEAN: Shape = { kind: 'boolean' };
export const LONG: Shape = { kind: 'long' };
export const record = (fields: Record<string, Shape | Field>): RecordShape => ({
  kind: 'record',
  fields: new Map(
    Object.entries(fields).map(([name, field]) => [
      name,
      'shape' in field ? field : { shape: field, required: true },
    ]),
  ),
  leftOut: new Map(),
});
export const optional = (shape: Shape): Field => ({ shape, required: false });

/** Objects within objects. Cedar's parser gives up at 128 levels of JSON; real arguments have two or three. */
const MAX_DEPTH = 8;

interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly anyOf?: unknown;
  readonly oneOf?: unknown;
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, JsonSchema>>;
}

/** The shape of a schema as its parsed values have it: defaults filled in, so that such fields are always there. */
export function shapeOf(schema: z.ZodObject): RecordShape {
  const json = z.toJSONSchema(schema, { io: 'output', unrepresentable: 'any' }) as JsonSchema;
  const shape = read(json, json, 0);
  return typeof shape !== 'string' && shape.kind === 'record' ? shape : record({});
}

/** A shape, or why there is none. */
function read(json: JsonSchema, root: JsonSchema, depth: number): Shape | string {
  if (depth > MAX_DEPTH) return 'it is nested too deeply';
  if (json.$ref !== undefined) {
    const target = root.$defs?.[json.$ref.replace('#/$defs/', '')];
    return target ? read(target, root, depth + 1) : 'it is recursive';
  }
  switch (json.type) {
    case 'string':
    case 'boolean':
      return { kind: json.type };
    case 'integer':
      return { kind: 'long' };
    case 'number':
      return 'it may be a fraction; make it a whole number (z.int())';
    case 'array': {
      const element = json.items ? read(json.items, root, depth + 1) : 'its elements have no one type';
      if (typeof element === 'string') return `in its elements, ${element}`;
      return isWhole(element) ? { kind: 'set', element } : 'its elements have fields that rules cannot read';
    }
    case 'object':
      return json.properties ? readRecord(json, root, depth) : 'its fields have no fixed names';
    default:
      return json.anyOf || json.oneOf || Array.isArray(json.type)
        ? 'it has more than one type'
        : 'its type has no counterpart in rules';
  }
}

function readRecord(json: JsonSchema, root: JsonSchema, depth: number): RecordShape {
  const fields = new Map<string, Field>();
  const leftOut = new Map<string, string>();
  for (const [name, property] of Object.entries(json.properties ?? {})) {
    // `__entity` and `__extn` are Cedar's escapes: an argument must never be read as one.
    const shape = name.startsWith('__') ? 'its name begins with __' : read(property, root, depth + 1);
    if (typeof shape === 'string') leftOut.set(name, shape);
    else fields.set(name, { shape, required: json.required?.includes(name) ?? false });
  }
  return { kind: 'record', fields, leftOut };
}

/** Whether nothing in it is left out, so that comparing it as a whole compares all of it. */
export function isWhole(shape: Shape): boolean {
  if (shape.kind === 'set') return isWhole(shape.element);
  if (shape.kind !== 'record') return true;
  return shape.leftOut.size === 0 && [...shape.fields.values()].every((field) => isWhole(field.shape));
}

/** The shape as a type of a Cedar schema. */
export function cedarType(shape: Shape): Type<string> {
  switch (shape.kind) {
    case 'string':
      return { type: 'String' };
    case 'boolean':
      return { type: 'Boolean' };
    case 'long':
      return { type: 'Long' };
    case 'set':
      return { type: 'Set', element: cedarType(shape.element) };
    case 'record': {
      const attributes: Record<string, TypeOfAttribute<string>> = {};
      for (const [name, field] of shape.fields)
        attributes[name] = { ...cedarType(field.shape), required: field.required };
      return { type: 'Record', attributes };
    }
  }
}

/** Thrown where a value is not of its shape: the caller denies. Names the place, never the value. */
export class Unjudgeable extends Error {
  override readonly name = 'Unjudgeable';
}

/** What one question may hold in characters and list elements: beyond it, judging would stall the whole host. */
const MAX_SIZE = 2_000_000;
const ELEMENT_SIZE = 16;

/**
 * A value as Cedar takes it: exactly what its shape has, everything else dropped. Throws {@link Unjudgeable} on a
 * value of another type, a missing required field, an integer that JavaScript cannot hold exactly, a string that
 * is not well-formed Unicode (Cedar refuses it too, without saying where), or more than about two million characters.
 */
export function cedarValue(shape: Shape, value: unknown, place: string): CedarValueJson {
  let left = MAX_SIZE;
  const spend = (size: number): void => {
    left -= size;
    if (left < 0) throw new Unjudgeable('it is too large to be judged');
  };
  const convert = (of: Shape, from: unknown, at: string): CedarValueJson => {
    spend(ELEMENT_SIZE);
    switch (of.kind) {
      case 'string':
        if (typeof from !== 'string') throw new Unjudgeable(`${at} is no string`);
        spend(from.length);
        if (/\p{Surrogate}/u.test(from)) throw new Unjudgeable(`${at} is not well-formed Unicode`);
        return from;
      case 'boolean':
        if (typeof from !== 'boolean') throw new Unjudgeable(`${at} is no boolean`);
        return from;
      case 'long':
        if (typeof from !== 'number' || !Number.isSafeInteger(from))
          throw new Unjudgeable(`${at} is no exact integer`);
        return from === 0 ? 0 : from;
      case 'set':
        if (!Array.isArray(from)) throw new Unjudgeable(`${at} is no list`);
        return from.map((element: unknown) => convert(of.element, element, at));
      case 'record': {
        if (typeof from !== 'object' || from === null) throw new Unjudgeable(`${at} is no object`);
        const result: Record<string, CedarValueJson> = {};
        for (const [name, field] of of.fields) {
          const member: unknown = Object.hasOwn(from, name)
            ? (from as Record<string, unknown>)[name]
            : undefined;
          if (member !== undefined) result[name] = convert(field.shape, member, `${at}.${name}`);
          else if (field.required) throw new Unjudgeable(`${at}.${name} is missing`);
        }
        return result;
      }
    }
  };
  return convert(shape, value, place);
}
