import type { Random } from '../support/hostile-urls';
import type { HostileTenant } from './tenants';

/** A tool and its arguments; a text goes to the gateway as it is, JSON or not. */
export type Call = readonly [tool: string, args: unknown];
/** Stands for the call that the text of a record demands: the model does as it is told. */
export const AS_TOLD: Call = ['as.told', null];

/** What an attack is made of. */
export interface Ground {
  readonly random: Random;
  readonly tenant: HostileTenant;
  readonly recordId: string;
  readonly email: string;
  /** A record of another account. */
  readonly foreignId: string;
  readonly foreignTenant: string;
  /** A port of this machine that nobody may connect to. */
  readonly port: number;
}

export const oneOf = <T>(random: Random, ...choices: readonly [T, ...T[]]): T =>
  choices[random(choices.length)] ?? choices[0];
export const upTo = (random: Random, from: number, most: number): number => from + random(most - from + 1);

export const refund = (
  { recordId }: Ground,
  amountCents: unknown,
  reason: string,
  more: object = {},
): Call => ['refund.make', { recordId, amountCents, reason, ...more }];
export const free = ({ random, tenant }: Ground): number => upTo(random, 1, tenant.freeCents);
export const tooMuch = ({ random, tenant }: Ground): number =>
  oneOf(random, tenant.mostCents + 1, tenant.mostCents * 10, upTo(random, tenant.mostCents + 1, 900_000_000));
/** A sum that a person is asked about. */
export const asked = ({ random, tenant }: Pick<Ground, 'random' | 'tenant'>): number =>
  upTo(random, tenant.freeCents + 1, tenant.mostCents);
