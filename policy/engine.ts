import { setFlagsFromString } from 'node:v8';
import {
  type AuthorizationAnswer,
  type PolicyJson,
  type StatefulAuthorizationCall,
  preparsePolicySet,
  statefulIsAuthorized,
} from '@cedar-policy/cedar-wasm/nodejs';

/**
 * V8 inlines hot calls into wasm, and in Node 20 dies on a deoptimisation there: "unreachable code" in
 * `Deoptimizer::DoComputeBuiltinContinuation`, SIGTRAP, seen after some thousand decisions. Without inlining a decision costs the
 * same within what can be measured.
 */
setFlagsFromString('--no-turbo-inline-js-wasm-calls');

/** Rules that are evaluated together: everything that can concern one action. `key` is the digest of `policies`, `size` in rules of ordinary length. */
export interface RuleSet {
  readonly key: string;
  readonly policies: Readonly<Record<string, PolicyJson>>;
  readonly size: number;
}

/** Rules kept parsed at once; one takes 3 to 5 kB of wasm memory, which grows and never shrinks: about 80 MB. */
const CAPACITY = 20_000;

/**
 * The parsed rule sets of this process. Cedar keeps a set under its id for ever, so ids are a pool: a set that has
 * not been asked for longest gives its id up, emptied, and is parsed again if it is asked for once more. Sets are
 * found by their content, so versions and profiles that agree on an action share one, and any number of versions
 * may be alive. Synchronous throughout: between choosing an id and asking it, nothing else runs.
 */
export class ParsedSets {
  /** By key, least recently asked for first. */
  private readonly held = new Map<string, { id: string; size: number }>();
  private readonly free: string[] = [];
  private made = 0;
  private used = 0;

  constructor(private readonly capacity = CAPACITY) {}

  /** What is held now: for tests and for a look at memory. `ids` is how many Cedar has ever been given. */
  get usage(): { sets: number; rules: number; ids: number } {
    return { sets: this.held.size, rules: this.used, ids: this.made };
  }

  /** Asks Cedar. Throws where a set cannot be parsed or the engine fails: the caller denies. */
  ask(set: RuleSet, call: Omit<StatefulAuthorizationCall, 'preparsedPolicySetId'>): AuthorizationAnswer {
    return statefulIsAuthorized({ ...call, preparsedPolicySetId: this.hold(set) });
  }

  private hold(set: RuleSet): string {
    const held = this.held.get(set.key);
    if (held) {
      this.held.delete(set.key);
      this.held.set(set.key, held);
      return held.id;
    }
    for (const [key, oldest] of this.held) {
      if (this.used + set.size <= this.capacity) break;
      this.held.delete(key);
      this.used -= oldest.size;
      parse(oldest.id, {});
      this.free.push(oldest.id);
    }
    const id = this.free.at(-1) ?? `set-${this.made}`;
    parse(id, set.policies);
    if (this.free.pop() === undefined) this.made += 1;
    this.held.set(set.key, { id, size: set.size });
    this.used += set.size;
    return id;
  }
}

function parse(id: string, staticPolicies: RuleSet['policies']): void {
  const answer = preparsePolicySet(id, { staticPolicies });
  if (answer.type === 'failure') throw new Error(answer.errors[0]?.message ?? 'rules cannot be parsed');
}

/** One pool for the process, as there is one wasm memory. */
export const parsedSets = new ParsedSets();
