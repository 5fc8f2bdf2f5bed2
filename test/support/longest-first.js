const { default: Sequencer } = require('@jest/test-sequencer');

/** Files that take a minute or more: begun last they would keep one worker alone at the end. */
const LONGEST = [
  'chaos/chaos.test',
  'hostile/hostile.test',
  'chaos/activities.test',
  'chaos/wire.test',
  'runs/gateway.test',
  'workflows/follow-ups.test',
];
const place = ({ path }) => {
  const index = LONGEST.findIndex((name) => path.includes(name));
  return index < 0 ? LONGEST.length : index;
};

/** jest's own order (by the durations that it has seen, else by size), but the longest begin first. */
module.exports = class LongestFirst extends Sequencer {
  sort(tests) {
    return [...super.sort(tests)].sort((a, b) => place(a) - place(b));
  }
};
