/** The value below which the share `q` of the sorted values lies. Of no values, NaN. */
export function quantile(values: readonly number[], q: number): number {
  return quantileOfSorted(Float64Array.from(values).sort(), q);
}

function quantileOfSorted(sorted: Float64Array | undefined, q: number): number {
  if (!sorted) return Number.NaN;
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Resamplings of an interval (percentile bootstrap, Efron 1979). */
const RESAMPLINGS = 2_000;

/** 95 % interval of the median by resampling, from a fixed seed. */
export function medianInterval(values: readonly number[]): readonly [number, number] {
  const random = randomFrom(42);
  return intervalOf(() =>
    median(values.map(() => values[Math.floor(random() * values.length)] ?? Number.NaN)),
  );
}

/**
 * 95 % intervals of the ratio of two arms' quantiles, one for each of `qs`, by resampling rounds and then the values in them: calls
 * of one round were disturbed together, so they say less than as many on their own. The arms' rounds belong to each other, by
 * their place.
 */
export function slowdownIntervals(
  rounds: readonly (readonly number[])[],
  base: readonly (readonly number[])[],
  qs: readonly number[],
): (readonly [number, number])[] {
  const random = randomFrom(42);
  const drawn = qs.map((): number[] => []);
  for (let draw = 0; draw < RESAMPLINGS; draw += 1) {
    const chosen = rounds.map(() => Math.floor(random() * rounds.length));
    const [ours, theirs] = [rounds, base].map((arm) => sortedResample(arm, chosen, random));
    qs.forEach((q, index) => drawn[index]?.push(quantileOfSorted(ours, q) / quantileOfSorted(theirs, q)));
  }
  return drawn.map((ratios) => [quantile(ratios, 0.025), quantile(ratios, 0.975)]);
}

/** As many values of each chosen round as it has, drawn anew. */
function sortedResample(
  arm: readonly (readonly number[])[],
  chosen: readonly number[],
  random: () => number,
): Float64Array {
  const values = new Float64Array(chosen.reduce((sum, round) => sum + (arm[round]?.length ?? 0), 0));
  let at = 0;
  for (const round of chosen) {
    const from = arm[round] ?? [];
    for (let count = 0; count < from.length; count += 1)
      values[at++] = from[Math.floor(random() * from.length)] ?? Number.NaN;
  }
  return values.sort();
}

function intervalOf(draw: () => number): readonly [number, number] {
  const drawn = Array.from({ length: RESAMPLINGS }, draw);
  return [quantile(drawn, 0.025), quantile(drawn, 0.975)];
}

/** From 0 to 1, always the same ones. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Jain's index: 1 where all have the same, 1/n where one has everything. */
export function jainIndex(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  const squares = values.reduce((total, value) => total + value * value, 0);
  return squares === 0 ? Number.NaN : (sum * sum) / (values.length * squares);
}
