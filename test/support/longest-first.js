const { default: Sequencer } = require('@jest/test-sequencer');

/** Files that take half a minute or more, the longest first: begun last they would keep one worker alone at the end. */
const LONGEST = [
  'chaos/chaos.test',
  'runs/providers.test',
  'hostile/hostile.test',
  'chaos/activities.test',
  'lanes/shared.test',
  'workflows/follow-ups.test',
  'runs/gateway.test',
  'lanes/killed-hosts.test',
  'runs/limits-surface.test',
  'runs/recovery.test',
  'chaos/wire.test',
  'lanes/moves.test',
  'tools/egress-urls.test',
  'recover/recover.test',
  'recover/edges.test',
  'runs/undo.test',
  'chaos/harness.test',
  'cli/dead-letter.test',
];
/** Files that hold the platform to a second: run when the heavy ones are over, or they measure those. */
const TIMED = ['control/kill.test', 'control/saturated.test', 'storage/pool.test'];
const place = ({ path }) => {
  if (TIMED.some((name) => path.includes(name))) return LONGEST.length + 1;
  const index = LONGEST.findIndex((name) => path.includes(name));
  return index < 0 ? LONGEST.length : index;
};

/** jest's own order (by the durations that it has seen, else by size), but the longest begin first. */
module.exports = class LongestFirst extends Sequencer {
  sort(tests) {
    return [...super.sort(tests)].sort((a, b) => place(a) - place(b));
  }
};
