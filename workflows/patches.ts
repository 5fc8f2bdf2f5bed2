import { patched } from '@temporalio/workflow';

/**
 * Changes of commands that an older history lacks and that nothing in its data tells apart. Prefer data: what a newer
 * activity answers, an older history does not hold. An entry leaves once no history from before it can be open any more,
 * and its golden histories with it. A test holds that each id here is used, and that there are no others.
 */
export const PATCHES = {
  'sweep-journal-heads': {
    since: '0.2.0',
    reason: 'the sweep first holds the journals against where they ended at the last sweep',
  },
  'sweep-follow-ups': {
    since: '0.2.0',
    reason: 'the sweep also starts follow-ups that nobody started, and purges',
  },
  'sweep-queues': {
    since: '0.2.0',
    reason: 'the sweep also tends the lines for slots',
  },
} as const satisfies Record<string, { since: string; reason: string }>;

/** Whether this history is of after the change. Always write the id out, for the test finds uses by their text. */
export const changed = (id: keyof typeof PATCHES): boolean => patched(id);
