/** What one tenant has of a provider's pool or of a shared capacity, and wants of it. */
export interface PoolMember {
  readonly tenantId: string;
  /** Of its quota class; 0 for one that was taken out of the pool and has calls under way in it. */
  readonly weight: number;
  /** Calls at a time that it could use at most; `Infinity` where nothing says. */
  readonly ceiling: number;
  /** Of the ceiling what its quota class guarantees; and what of that there is, where more is promised than the pool has. */
  readonly promised: number;
  readonly guaranteed: number;
  /** Its share: calls at a time. */
  readonly calls: number;
  /** Its calls under way; more than its share where that was made smaller since. */
  readonly inFlight: number;
  /** It has asked lately; `short`: and was refused. */
  readonly wants: boolean;
  readonly short: boolean;
}

/** A model provider's capacity, or one of the shared platform, in one environment, and who shares it. */
export interface PoolView {
  /** `null`: the platform's own, for calls of every kind. */
  readonly provider: string | null;
  readonly pool: string;
  readonly callsInFlight: number;
  /** `null` where the provider has no such limit. */
  readonly modelTokensPerMinute: number | null;
  readonly members: readonly PoolMember[];
}

/** Says for each member, by tenant, how many calls at a time are to be its own: whole numbers, together at most the capacity. */
export type DividePool = (view: PoolView) => ReadonlyMap<string, number>;
