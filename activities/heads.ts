import type { Environment } from '../contracts/ids';
import type { Storage } from '../contracts/ports';
import type { SeenHead } from '../contracts/recovery';
import { mintScope } from '../contracts/scope-mint';
import type { HeadActivities, PackedHead } from '../contracts/workflow-io';
import { callingPlatform } from './call-context';

/** The sweep's witness of journals: it keeps in Temporal where each one ended, and holds the next look against it (promise O8). */
export function createHeads(parts: { storage: Storage; environment: Environment }): HeadActivities {
  const { storage, environment } = parts;
  return {
    async checkHeads({ lastHeads }) {
      callingPlatform();
      const lost = await storage.platform.lostHeads(unpackHeads(lastHeads));
      let rewound = 0;
      for (const { tenantId, ...head } of lost) {
        const store = storage.tenant(mintScope(tenantId, environment, 'control'));
        if (await store.recovery.markRewound({ ...head, by: 'the sweep' })) rewound += 1;
      }
      // Read after the marks: what is kept next is what was checked, or newer.
      const heads = await storage.platform.journalHeads();
      return { rewound, heads: heads.map(pack) };
    },
  };
}

/** Small, for every sweep's history holds one of each tenant. */
const pack = ({ tenantId, seq, hash, acknowledged }: SeenHead): PackedHead => [
  tenantId,
  seq,
  hash,
  acknowledged,
];

/** Heads as a sweep has returned them; what is none is left out. */
export function unpackHeads(packed: readonly PackedHead[] | undefined): SeenHead[] {
  return (packed ?? []).map(([tenantId, seq, hash, acknowledged]) => ({
    tenantId: tenantId as SeenHead['tenantId'],
    seq,
    hash,
    acknowledged,
  }));
}
