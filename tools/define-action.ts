import { z } from 'zod';
import type { Action, ActionSpec } from '../contracts/action';
import { MAX_RESULT_BYTES } from '../contracts/calls';
import { digestOf } from '../contracts/digest';
import { milliseconds } from '../contracts/duration';
import { ActionName, Capability, SystemName } from '../contracts/ids';
import { MODEL_ACTION } from '../contracts/names';
import { actionOfToolName, toolNameOfAction } from '../contracts/tool-names';
import { dropsFieldsAt } from './dropped-fields';

const DAY_MS = 86_400_000;
const DATA_CLASS = /^[a-z][a-z0-9_]{0,39}$/;

/**
 * Declares a tool. Checks at load what would otherwise fail at the first call: names, strictness of `args`, that what it
 * declares can be carried out. A high-risk write without `verify` can be declared, and runs only for tenants whose policy
 * accepts that in words (`readBackWaived`, promise T4).
 * Throws a TypeError that names the action and what to change.
 */
export function defineAction<A extends z.ZodObject, R extends z.ZodType>(spec: ActionSpec<A, R>): Action {
  const wrong = (what: string): never => {
    throw new TypeError(`action ${spec.name}: ${what}`);
  };
  const name = ActionName.safeParse(spec.name);
  if (!name.success) throw new TypeError(`action "${spec.name}": ${name.error.issues[0]?.message}`);
  if (spec.name === MODEL_ACTION) wrong('this name is kept for model calls');
  if (actionOfToolName(toolNameOfAction(spec.name)) !== spec.name)
    wrong('models see "__" in the place of each dot: write no "__" in a name, and no "_" before a dot');
  if (spec.effect === 'read' && spec.compensate) wrong('a read has nothing to compensate');
  if (spec.reversible === 'compensable' && !spec.compensate)
    wrong('a compensable action declares `compensate`');
  if (spec.compensate && (spec.reversible ?? 'final') === 'final')
    wrong(
      "a final action is never undone: with `compensate`, declare reversible: 'reversible' or 'compensable'",
    );
  if (spec.visibleWithin && !spec.reconcile)
    wrong('visibleWithin is how soon `reconcile` sees a write: declare `reconcile` too');
  const visibleWithinMs = spec.visibleWithin === undefined ? null : milliseconds(spec.visibleWithin);
  if (visibleWithinMs !== null && visibleWithinMs > DAY_MS) wrong('visibleWithin is at most 24h');
  if (spec.secret && !spec.system) wrong('a secret goes to a system: declare `system`');
  if (spec.secret && spec.destination)
    wrong(
      'an argument says where it goes, and the secret would go there too: leave out `secret`, or `destination`',
    );
  const maxResultBytes = spec.maxResultBytes ?? MAX_RESULT_BYTES;
  if (!Number.isInteger(maxResultBytes) || maxResultBytes < 2 || maxResultBytes > MAX_RESULT_BYTES)
    wrong(`maxResultBytes is a whole number from 2 to ${MAX_RESULT_BYTES}`);
  const timeoutMs = milliseconds(spec.timeout);
  if (timeoutMs < 100 || timeoutMs > 600_000) wrong('timeout is between 100ms and 10m');

  const dataClasses = (spec.dataClasses ?? {}) as Record<string, string[]>;
  const resultClasses = spec.resultClasses ?? [];
  for (const arg of Object.keys(dataClasses)) {
    if (!Object.hasOwn(spec.args.shape, arg)) wrong(`dataClasses names ${arg}, which is no argument of it`);
  }
  for (const name of [...Object.values(dataClasses).flat(), ...resultClasses]) {
    if (!DATA_CLASS.test(name))
      wrong(`"${name}" is no name of a data class: small letters, digits and _, a letter first, at most 40`);
  }

  const args = spec.args.strict();
  const dropping = dropsFieldsAt(args);
  if (dropping !== undefined)
    wrong(
      `args.${dropping} drops fields that it does not know, so that a call would do other than it was asked: write z.strictObject (or z.looseObject, to take them)`,
    );
  return Object.freeze<Action>({
    name: name.data,
    description: spec.description,
    effect: spec.effect,
    args,
    result: spec.result,
    system: spec.system === null ? null : SystemName.parse(spec.system),
    secret: spec.secret === undefined ? null : Capability.parse(spec.secret),
    destination: (spec.destination as Action['destination']) ?? null,
    records: (spec.records as Action['records']) ?? null,
    dataClasses,
    resultClasses: [...new Set(resultClasses)],
    costMicroUsd: spec.cost?.microUsd ?? 0,
    maxResultBytes,
    lane: spec.lane ?? 'ordinary',
    timeoutMs,
    remoteHonoursKeys: spec.remoteHonoursKeys ?? false,
    keyValidForMs: spec.keyValidFor ? milliseconds(spec.keyValidFor) : DAY_MS,
    reversible: spec.reversible ?? (spec.effect === 'read' ? 'reversible' : 'final'),
    visibleWithinMs,
    facts: (spec.facts as Action['facts']) ?? null,
    run: spec.run as Action['run'],
    reconcile: (spec.reconcile as Action['reconcile']) ?? null,
    verify: (spec.verify as Action['verify']) ?? null,
    compensate: (spec.compensate as Action['compensate']) ?? null,
    schemaDigest: digestOf(z.toJSONSchema(args)),
  });
}
