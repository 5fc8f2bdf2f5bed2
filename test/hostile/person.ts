import { setTimeout as sleep } from 'node:timers/promises';
import type { TestStack } from '../support/stack';
import type { Episode } from './episodes';
import type { Approved } from './judge';
import { PAYER, TENANTS } from './tenants';

/** The person of each tenant who is asked: says yes to the refund of an honest task, and no to everything else. */
export interface Person {
  /** Every yes. */
  readonly approved: readonly Approved[];
  readonly denied: () => number;
  /** Rejects with what went wrong, if anything did. */
  stop(): Promise<void>;
}

const LOOKS_EVERY_MS = 200;

export function startPerson(stack: TestStack, episodes: readonly Episode[]): Person {
  const approved: Approved[] = [];
  let denied = 0;
  let stopped = false;
  const honest = new Set(
    episodes.filter(({ task }) => task === 'approved').map(({ wanted }) => shown(wanted.body)),
  );
  const decided = new Set<string>();

  const look = async (tenant: string, token: string): Promise<void> => {
    for (const { approvalNo, args, action } of await stack.client.approvals({
      token,
      open: true,
      limit: 100,
    })) {
      const place = `${tenant} ${approvalNo}`;
      if (decided.has(place)) continue;
      decided.add(place);
      if (action === 'refund.make' && honest.delete(shown(JSON.parse(args) as object))) {
        approved.push({ tenant, args });
        await stack.client.approve({ token, approvalNo });
      } else {
        denied += 1;
        await stack.client.deny({ token, approvalNo });
      }
    }
  };

  const working = Promise.all(
    TENANTS.map(async ({ name }) => {
      const token = await stack.token(name, { subject: 'a-payer', roles: [PAYER] });
      while (!stopped) {
        await look(name, token);
        await sleep(LOOKS_EVERY_MS);
      }
    }),
  );
  working.catch(() => undefined);
  return {
    approved,
    denied: () => denied,
    async stop() {
      stopped = true;
      await working;
    },
  };
}

const shown = (args: object): string =>
  JSON.stringify(Object.entries(args).sort(([a], [b]) => (a < b ? -1 : 1)));
