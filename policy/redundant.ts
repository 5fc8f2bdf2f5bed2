import { milliseconds } from '../contracts/duration';
import { comparable, destinationPattern } from './destinations';
import { matches } from './globs';
import { type Mistake, pathText, quote } from './mistakes';
import type { ProfileParts } from './profile';
import type { Rule } from './rule-fields';
import type { Locate } from './yaml-text';

/** A list of names, made ready to look names up in; `undefined` for one left out, which is everything. */
type Names = { readonly all: ReadonlySet<string>; readonly patterns: readonly string[] } | undefined;
/** What two rules are compared by, worked out once for each: five hundred rules are a hundred thousand pairs. */
interface Compared {
  readonly index: number;
  readonly id: string;
  /** What has to be the same in both. */
  readonly same: string;
  readonly when: string | undefined;
  readonly unless: string | undefined;
  readonly destinations: Names;
  /** Whether it permits ways to a destination that a permission without destinations does not mean. */
  readonly unusualWays: boolean;
  readonly exceptions: Names;
  /** Lists of which the later rule has to name a part of what the earlier one names. */
  readonly lists: readonly Names[];
}

/**
 * Rules that say nothing new: whenever one of them holds, an earlier rule of the same effect holds as well, as can be
 * seen from what the two of them name. Such a rule was meant to say something else, or is left from before.
 */
export function redundantRules(rules: ProfileParts['rules'], locate: Locate): Mistake[] {
  const compared = rules.flatMap(({ index, rule, whole }) => (whole ? [comparedOf(rule, index)] : []));
  return compared.flatMap((later, position) => {
    const earlier = compared.slice(0, position).find((candidate) => covers(candidate, later));
    if (!earlier) return [];
    const path = ['rules', later.index];
    const { line } = locate(['rules', earlier.index]);
    return [
      {
        ...locate(path),
        path: pathText(path),
        message: `this rule adds nothing: the rule ${quote(earlier.id)} on line ${line} says as much and more`,
        remedy: 'remove it, or narrow the earlier one',
      },
    ];
  });
}

/** Whether the earlier rule holds for every call that the later one holds for. */
function covers(earlier: Compared, later: Compared): boolean {
  return (
    earlier.same === later.same &&
    (earlier.when === undefined || earlier.when === later.when) &&
    (earlier.unless === undefined || earlier.unless === later.unless) &&
    later.lists.every((list, position) => within(list, earlier.lists[position])) &&
    within(later.destinations, earlier.destinations) &&
    !(later.unusualWays && earlier.destinations === undefined) &&
    // The more hosts are excepted, the fewer calls the rule holds for.
    (earlier.exceptions === undefined ||
      (later.exceptions !== undefined && within(earlier.exceptions, later.exceptions)))
  );
}

/** Whether every name of the one list is in the other, or in a pattern of it. */
function within(inner: Names, outer: Names): boolean {
  if (outer === undefined) return true;
  if (inner === undefined) return false;
  for (const name of inner.all) {
    // A star in the inner pattern can only be matched by one in the outer, which then takes all that it stands for.
    if (!outer.all.has(name) && !outer.patterns.some((pattern) => matches(pattern, name))) return false;
  }
  return true;
}

function comparedOf(rule: Rule, index: number): Compared {
  const { id, effect, approvers, workspaces, dataClasses, actions, agents, destinations } = rule;
  const asked = approvers && [
    [...new Set(approvers.roles)].sort(),
    milliseconds(approvers.expiresAfter),
    approvers.notRequester,
  ];
  return {
    index,
    id,
    same: JSON.stringify([effect, asked]),
    when: rule.when?.trim(),
    unless: rule.unless?.trim(),
    destinations: namesOf(destinations?.map(comparable)),
    unusualWays: effect !== 'forbid' && (destinations ?? []).some(namesWay),
    exceptions: namesOf(rule.exceptDestinations?.map(comparable)),
    lists: [workspaces, dataClasses, actions, agents].map(namesOf),
  };
}

function namesWay(destination: string): boolean {
  const { scheme, port } = destinationPattern(destination);
  return scheme !== undefined || port !== undefined;
}

const namesOf = (list: readonly string[] | undefined): Names =>
  list && { all: new Set(list), patterns: list.filter((name) => name.includes('*')) };
