import { parseArgs } from 'node:util';
import { ARMS, KINDS, LONGEST_WAIT_MS, type Arm, type Kind } from './noisy-kinds';

/** What a run of `noisy-neighbour` measures. */
export interface NoisyOptions {
  /** Of victims' calls, in each arm. */
  readonly samples: number;
  readonly kinds: readonly Kind[];
  /** Always with `alone`. */
  readonly arms: readonly Arm[];
  readonly victims: number;
  /** Calls a second of each victim. */
  readonly rate: number;
  /** The neighbour offers so many times as many as one victim. */
  readonly times: number;
  /** How long the system outside takes for a call of a victim. */
  readonly waitMs: number;
  /** Calls at once, of the one worker of `unprotected` and of the shared lane. */
  readonly slots: number;
  /** Calls at once of any one tenant, the neighbour and each victim alike: its class's \`callsInFlight\` and \`workerCeiling\`. */
  readonly ceiling: number;
  /** A file for everything that was measured, as JSON. */
  readonly json: string | undefined;
}

/** One spell of one arm: so long, that many of them. */
export interface Rounds {
  readonly count: number;
  readonly seconds: number;
}

/** A spell with its pauses takes about so much longer than it measures. */
const AROUND_SECONDS = 12;
/** Of one spell, at most: shorter than what disturbs the machine for long, and longer than the pauses around it. */
const SPELL_SECONDS = 50;
/** A round begins with so much: servers, hosts, tenants, and a short spell of each arm. */
const OPENING_SECONDS = 75;

export function noisyOptions(args: readonly string[]): NoisyOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      samples: { type: 'string', default: '2000' },
      kinds: { type: 'string', default: Object.keys(KINDS).join(',') },
      arms: { type: 'string', default: Object.keys(ARMS).join(',') },
      victims: { type: 'string', default: '8' },
      rate: { type: 'string', default: '1' },
      times: { type: 'string', default: '100' },
      wait: { type: 'string', default: '200' },
      slots: { type: 'string', default: '16' },
      ceiling: { type: 'string', default: '4' },
      json: { type: 'string' },
    },
  });
  const number = (name: 'samples' | 'victims' | 'rate' | 'times' | 'wait' | 'slots' | 'ceiling'): number => {
    const value = Number(values[name]);
    if (!(value > 0)) throw new Error(`--${name} is a number above 0`);
    return value;
  };
  if (number('wait') > LONGEST_WAIT_MS)
    throw new Error(
      `--wait is at most ${LONGEST_WAIT_MS}: slow calls take ten times as long, and have to end in time`,
    );
  return {
    samples: number('samples'),
    kinds: chosen('kinds', values.kinds, KINDS),
    arms: [...new Set<Arm>(['alone', ...chosen('arms', values.arms, ARMS)])],
    victims: number('victims'),
    rate: number('rate'),
    times: number('times'),
    waitMs: number('wait'),
    slots: number('slots'),
    ceiling: number('ceiling'),
    json: values.json,
  };
}

function chosen<K extends string>(name: string, text: string, known: Readonly<Record<K, string>>): K[] {
  const is = (word: string): word is K => Object.hasOwn(known, word);
  const words = text.split(',').map((word) => word.trim());
  const wrong = words.filter((word) => !is(word));
  if (wrong.length > 0)
    throw new Error(`--${name}: ${wrong.join(', ')} is none of ${Object.keys(known).join(', ')}`);
  return words.filter(is);
}

/** So many spells of so many seconds that each arm gets its samples. */
export function roundsOf({ samples, victims, rate }: NoisyOptions): Rounds {
  const seconds = samples / (victims * rate);
  // An even number, for the sake of the order of arms.
  const count = 2 * Math.max(1, Math.ceil(seconds / SPELL_SECONDS / 2));
  return { count, seconds: Math.ceil(seconds / count) };
}

/** How long the whole takes, minutes, roughly. */
export function minutesOf(options: NoisyOptions): number {
  const { count, seconds } = roundsOf(options);
  return (count * (OPENING_SECONDS + spellsOf(options).length * (seconds + AROUND_SECONDS))) / 60;
}

/** What is measured in each round; `alone` once for all kinds. */
export function spellsOf({ arms, kinds }: NoisyOptions): { arm: Arm; kind: Kind | null }[] {
  // Without Bulkhead nobody refuses: what would be refused is a flood.
  const ofArm = (arm: Arm): readonly (Kind | null)[] => {
    if (arm === 'alone') return [null];
    return arm === 'unprotected' ? kinds.filter((kind) => kind !== 'refused') : kinds;
  };
  return arms.flatMap((arm) => ofArm(arm).map((kind) => ({ arm, kind })));
}
