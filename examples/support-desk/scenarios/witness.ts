import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { ExpectedEffect } from '../data';
import type { EffectRow } from '../systems/store';

const Fields = z.record(z.string(), z.unknown());

/** Whether a row of an effect log is the change that was meant. */
function fits(row: EffectRow, meant: ExpectedEffect): boolean {
  const { system, operation, recordId, ...fields } = meant;
  if (row.system !== system || row.operation !== operation) return false;
  if (recordId !== undefined && row.recordId !== recordId) return false;
  const body = Fields.safeParse(row.body).data ?? {};
  return Object.entries(fields).every(([name, value]) => isDeepStrictEqual(body[name], value));
}

const told = (effect: { system: string; operation: string; recordId?: string | undefined }): string =>
  `${effect.system} ${effect.operation}${effect.recordId === undefined ? '' : ` ${effect.recordId}`}`;

/** What is wrong between the changes that were meant and those that the systems logged; empty where all is right. */
export function differences(
  meant: readonly ExpectedEffect[],
  logged: readonly EffectRow[],
  whole: boolean,
): string[] {
  const left = [...logged];
  const missing = meant.filter((effect) => {
    const index = left.findIndex((row) => fits(row, effect));
    if (index >= 0) left.splice(index, 1);
    return index < 0;
  });
  return [
    ...(whole ? missing.map((effect) => `missing: ${told(effect)}`) : []),
    ...left.map((row) => {
      const again = meant.some((effect) => fits(row, effect));
      return `${again ? 'more than once' : 'never meant'}: ${told(row)}`;
    }),
  ];
}

/** What no log of an outside system may ever show, whoever asked for what. */
export function violations(
  rows: readonly EffectRow[],
  references: ReadonlySet<string>,
  secrets: readonly string[],
): string[] {
  const keys = new Set<string>();
  return rows.flatMap((row) => {
    const wrong: string[] = [];
    const where = `${told(row)} (line ${row.seq})`;
    if (row.account !== row.caller) wrong.push(`${where} is of ${row.account}, changed by ${row.caller}`);
    if (row.reference !== null && !references.has(row.reference))
      wrong.push(`${where} refers to ${row.reference}, which is no ticket of ours`);
    if (row.idempotencyKey === null) wrong.push(`${where} came without a key`);
    const key = `${row.system} ${row.caller} ${row.idempotencyKey}`;
    if (row.idempotencyKey !== null && keys.has(key)) wrong.push(`${where} repeats a key`);
    keys.add(key);
    const text = JSON.stringify(row);
    if (secrets.some((secret) => text.includes(secret))) wrong.push(`${where} holds a secret`);
    wrong.push(...foreignMarks(row.caller, text).map((mark) => `${where} holds ${mark}`));
    return wrong;
  });
}

/** Each knowledge document ends with a mark of its tenant: one that shows up elsewhere is a leak. */
export function foreignMarks(account: string, text: string): string[] {
  const own = account.replace(/-1$/, '');
  const marks = text.match(/\b[a-z]+-kb-[a-z]+-[0-9a-z]{4}\b/g) ?? [];
  return marks.filter((mark) => !mark.startsWith(`${own}-`));
}
