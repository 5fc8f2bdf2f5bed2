import { matches } from './globs';
import { type Mistake, pathText, quote } from './mistakes';
import type { ModelEntry, ProfileParts } from './profile';
import type { Locate } from './yaml-text';

/**
 * Checks that what is named as a fallback could answer at all: another model, named once, that `models.allow` lets answer with
 * every data that it lets the first one answer with. A fallback that policy refuses in the middle of an outage is none.
 */
export function checkFallbacks(
  fallbacks: ProfileParts['fallbacks'],
  models: ProfileParts['models'],
  locate: Locate,
): Mistake[] {
  const entries = models.map(({ entry }) => entry);
  const seen = new Set<string>();
  return fallbacks.flatMap(({ index, fallback: { model, to } }) => {
    const mistakes: Mistake[] = [];
    const at = (path: PropertyKey[], message: string, remedy: string): void => {
      const full = ['models', 'fallback', index, ...path];
      mistakes.push({ ...locate(full), path: pathText(full), message, remedy });
    };
    if (seen.has(model)) {
      at(
        ['model'],
        `there are two fallbacks of ${quote(model)}`,
        'name all models in one `to`, in their order',
      );
    }
    seen.add(model);
    const own = allowing(entries, model);
    if (own.length === 0) {
      at(['model'], `no entry of models.allow allows ${quote(model)}`, 'allow it, or remove the entry');
    }
    for (const [position, name] of to.entries()) {
      const path = ['to', position];
      const theirs = allowing(entries, name);
      const lacking = own.find(
        (entry) => !theirs.some((other) => covers(other.dataClasses, entry.dataClasses)),
      );
      if (name === model) at(path, `${quote(name)} is named as its own fallback`, 'name another model');
      else if (to.indexOf(name) < position) at(path, `${quote(name)} is named twice`, 'remove one of them');
      else if (theirs.length === 0)
        at(path, `no entry of models.allow allows ${quote(name)}`, 'allow it there too');
      else if (lacking) at(path, `${quote(name)} may not be asked with ${dataOf(lacking)}`, REMEDY(model));
    }
    return mistakes;
  });
}

const REMEDY = (model: string): string =>
  `give it the same dataClasses in models.allow as ${model}, or name another model`;

const allowing = (entries: readonly ModelEntry[], model: string): ModelEntry[] =>
  entries.filter((entry) => matches(entry.model, model));

/** Whether what one entry lets pass holds all that the other lets pass; no classes at all are any data. */
const covers = (wide: ModelEntry['dataClasses'], narrow: ModelEntry['dataClasses']): boolean =>
  wide === undefined || (narrow !== undefined && narrow.every((name) => wide.includes(name)));

const dataOf = ({ model, dataClasses }: ModelEntry): string =>
  dataClasses
    ? `${dataClasses.join(', ')} together, as ${quote(model)} may`
    : `any data, as ${quote(model)} may`;
