import type { WorkerParts } from '../workers/parts';

/** What a host in a process of its own is made of, as JSON. */
export interface HostSpec {
  readonly temporalAddress: string;
  /** Of the application's role. */
  readonly databaseUrl: string;
  readonly environment: string;
  readonly jwks: unknown;
  /** 32 bytes, base64. */
  readonly masterSecret: string;
  readonly bounds: WorkerParts['bounds'];
  readonly timing: WorkerParts['timing'];
}

/** Everything that such a process is told, in its environment. */
export interface HostOrder {
  readonly spec: HostSpec;
  readonly hostId: string;
  /** `lanes`: the workflows of runs, and the lanes. `lane`: one dedicated tenant's. `raw`: activities without Bulkhead. */
  readonly role: 'control' | 'lanes' | 'lane' | 'raw';
  /** Of `lane`. */
  readonly tenantId?: string;
  readonly lanes?: WorkerParts['lanes'];
  /** Activities at once, of `raw`. */
  readonly slots?: number;
  /** The system outside, of `raw`. */
  readonly outside?: string;
  /** A file with the workflows, of `control` and `lanes`. */
  readonly bundlePath: string;
}

/** What it says over its channel: that it serves, and how many lanes are open. */
export type HostNews = { readonly kind: 'serves' } | { readonly kind: 'lanes'; readonly open: number };

export const ORDER_VARIABLE = 'BENCH_HOST_ORDER';
