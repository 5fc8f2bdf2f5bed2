import type { z } from 'zod';

/** What a schema is made of, as zod tells it (`def` of its types). */
interface Definition {
  readonly type: string;
  readonly shape?: Readonly<Record<string, z.ZodType>>;
  readonly catchall?: z.ZodType;
  readonly element?: z.ZodType;
  readonly innerType?: z.ZodType;
  readonly valueType?: z.ZodType;
  readonly options?: readonly z.ZodType[];
  readonly items?: readonly z.ZodType[];
  readonly rest?: z.ZodType | null;
  readonly left?: z.ZodType;
  readonly right?: z.ZodType;
  readonly in?: z.ZodType;
  readonly out?: z.ZodType;
  readonly getter?: () => z.ZodType;
}

/**
 * Where a schema would drop a field that it does not know, as a path such as `order.lines[]`; `undefined` where nowhere. A model that asked
 * for `{order: {dryRun: true}}` would have the order placed.
 */
export function dropsFieldsAt(schema: z.ZodType, path = '', seen = new Set<z.ZodType>()): string | undefined {
  if (seen.has(schema)) return undefined;
  seen.add(schema);
  const def = schema.def as Definition;
  if (def.type === 'object' && def.catchall === undefined) return path;
  const into = (child: z.ZodType | null | undefined, step = ''): string | undefined =>
    child ? dropsFieldsAt(child, path + step, seen) : undefined;
  const fields = Object.entries(def.shape ?? {}).map(
    ([name, field]) =>
      () =>
        into(field, `${path && '.'}${name}`),
  );
  const inside = [
    ...fields,
    () => into(def.catchall, '{}'),
    () => into(def.element, '[]'),
    () => into(def.valueType, '{}'),
    () => into(def.rest, '[]'),
    ...(def.items ?? []).map((item) => () => into(item, '[]')),
    ...[def.innerType, ...(def.options ?? []), def.left, def.right, def.in, def.out].map(
      (one) => () => into(one),
    ),
    () => into(def.getter?.()),
  ];
  for (const look of inside) {
    const found = look();
    if (found !== undefined) return found;
  }
  return undefined;
}
