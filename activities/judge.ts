import { digestOf, outsideKey } from '../contracts/digest';
import type { Digest } from '../contracts/ids';
import type { Envelope } from '../contracts/envelope';
import { hostOf, portOf } from '../contracts/http-url';
import { parseWorkflowId } from '../contracts/workflow-ids';
import { ownsAccount } from '../contracts/ownership';
import { positionPath, undoPath } from '../contracts/calls';
import type { RecordRef } from '../contracts/action';
import type { AdmitRequest } from '../contracts/ledger';
import type { ApprovalTerms, CompiledPolicy, Endpoint, PolicyRequest } from '../contracts/policy-decision';
import type { CallContext } from '../contracts/rows';
import type { Refusal } from '../contracts/refusal';
import { outcomeOf } from '../policy/outcome';
import type { PolicyInForce } from './policies';
import { isRefusal, isWrite, type Destination, type GovernedCall } from './governed-call';

/**
 * What was decided about a call under one policy version: go, with where to; go if a person says so, or said so of the
 * suggestion; or no, with why.
 */
export type Verdict = (
  | {
      readonly effect: 'allow';
      readonly rules: readonly string[];
      readonly destination: Destination | null;
      /** Whether this very call may be redirected there. */
      readonly mayGo: (url: URL) => boolean;
    }
  | {
      readonly effect: 'approve' | 'suggest';
      readonly rules: readonly string[];
      readonly destination: Destination | null;
      readonly terms: ApprovalTerms;
      readonly schemaDigest: Digest;
      /** What it answers where it is not let in. */
      readonly refusal: Refusal;
    }
  | { readonly effect: 'deny'; readonly refusal: Refusal }
) & {
  /** What policy was asked; `null` where form or scope refused before it. */
  readonly decided: AdmitRequest['decided'];
};

const denies = (refusal: Refusal, decided: Verdict['decided'] = null): Verdict => ({
  effect: 'deny',
  refusal,
  decided,
});

const deny = (
  refusal: Omit<Refusal, 'kind' | 'rules'> & { rules?: string[] },
  decided: Verdict['decided'] = null,
): Verdict => denies({ kind: 'denied', rules: [refusal.rule], ...refusal }, decided);

/**
 * Steps 1 and 2 of a governed call: form, scope, policy, in this order. Reads only; nothing is claimed yet.
 * Whatever is unknown refuses, and the refusal says which.
 */
export async function judge(
  call: GovernedCall,
  envelope: Envelope,
  context: CallContext,
  policyInForce: (version: number) => Promise<PolicyInForce>,
): Promise<Verdict> {
  if (call.refusedByForm) return denies(call.refusedByForm);

  const contradiction = contradictedField(call.args, envelope);
  if (contradiction) {
    return deny({
      origin: 'policy',
      rule: `scope.${contradiction}`,
      message: `the argument ${contradiction} is not the run's own`,
    });
  }
  const unknown = unknownRecord(call, envelope, context);
  if (unknown) {
    return deny({
      origin: 'policy',
      rule: 'scope.record_unknown',
      message: `a ${unknown.system} record in the arguments is not known to be this tenant's; read it by a search or a record that names it first`,
    });
  }

  const destination = call.destination(context.record);
  if (destination && isRefusal(destination)) return denies(destination);

  const inForce = await policyInForce(context.versions.policyVersion);
  if ('missing' in inForce)
    return deny({ origin: 'platform', rule: 'policy_unusable', message: inForce.missing });
  const { policy } = inForce;
  const standIn = refusedStandIn(call, context, policy);
  if (standIn) return deny(standIn);
  const asked = askedOf(call, envelope, context, destination);
  const { args: _args, ...input } = asked;
  const decided = { input, inputDigest: digestOf(asked) };
  const outcome = outcomeOf(policy, asked, { secret: call.secret, readBack: call.verify !== null });
  const why = {
    origin: 'policy' as const,
    rule: outcome.rules[0] ?? 'default-deny',
    rules: [...outcome.rules],
    message: outcome.message,
    policyVersion: policy.version,
  };
  const rules = [...outcome.rules, ...outcome.grant];
  if (outcome.effect === 'deny') return deny(why, decided);
  if (outcome.effect === 'allow') {
    const mayGo = (url: URL): boolean =>
      policy.decide({
        ...asked,
        destination: hostOf(url),
        endpoint: endpointOf({ url, connection: false }),
      }).effect === 'allow';
    return { effect: 'allow', rules, destination, mayGo, decided };
  }
  const { approval: terms, effect } = outcome;
  const { schemaDigest } = call;
  if (terms === null || schemaDigest === null) {
    const message = `the policy asks a person about ${call.action}, and does not say whom`;
    return deny({ origin: 'platform', rule: 'policy_unusable', message }, decided);
  }
  const kind = effect === 'approve' ? 'approval_required' : 'suggested';
  return { effect, rules, destination, terms, schemaDigest, refusal: { kind, ...why }, decided };
}

/**
 * Why a model may not answer in the place of another one, beside what holds for every model: policy in force has to name it so,
 * and without a credential it would end the call that the other one may still answer.
 */
function refusedStandIn(
  { insteadOf, model, secret }: GovernedCall,
  { sealed }: CallContext,
  policy: CompiledPolicy,
): Omit<Refusal, 'kind' | 'rules'> | undefined {
  if (insteadOf === undefined || model === null) return undefined;
  if (!policy.fallbacksOf(insteadOf).includes(model)) {
    const message = `the policy in force does not name ${model} as a fallback of ${insteadOf}`;
    return { origin: 'policy', rule: 'fallback_not_named', message, policyVersion: policy.version };
  }
  if (secret === null || sealed !== null) return undefined;
  const message = `the tenant has no usable ${secret}, so ${model} cannot answer for ${insteadOf}`;
  return { origin: 'platform', rule: 'credential_unavailable', message };
}

/** The whole question, with all that the call would carry: its arguments' classes and those of what its run has read. */
function askedOf(
  call: GovernedCall,
  envelope: Envelope,
  { facts, dataClasses }: CallContext,
  destination: Destination | null,
): PolicyRequest {
  return {
    agentId: envelope.agentId,
    agentClass: call.agentClass,
    workspaceId: envelope.workspaceId,
    environment: envelope.environment,
    principal: envelope.principal,
    target: envelope.target,
    action: call.action,
    effect: call.callClass,
    reversible: call.reversible ?? 'none',
    undo: call.undoOf !== null,
    system: call.system,
    destination: destination ? hostOf(destination.url) : null,
    endpoint: destination ? endpointOf(destination) : null,
    model: call.model,
    args: call.args,
    facts,
    dataClasses: [...new Set([...call.dataClasses, ...dataClasses])].sort(),
  };
}

/** Typed scope fields never decide scope; one that contradicts the envelope fails the call (promise E1). */
function contradictedField(args: Readonly<Record<string, unknown>>, envelope: Envelope): string | undefined {
  const own = {
    tenantId: envelope.tenantId,
    environment: envelope.environment,
    workspaceId: envelope.workspaceId,
  } as const;
  const contradicts = (value: unknown): string | undefined => {
    if (typeof value !== 'object' || value === null) return undefined;
    for (const [field, part] of Object.entries(value)) {
      if (Object.hasOwn(own, field) && part !== own[field as keyof typeof own] && part !== undefined)
        return field;
      const within = contradicts(part);
      if (within) return within;
    }
    return undefined;
  };
  return contradicts(args);
}

function unknownRecord(
  { records, callClass }: GovernedCall,
  { target }: Envelope,
  { known, record: tenant }: CallContext,
): RecordRef | undefined {
  return records.find((record) => {
    const match = known.find(({ system, id }) => system === record.system && id === record.id);
    if (match?.account !== undefined) return !ownsAccount(tenant, record.system, match.account);
    // The caller named the run's own target; whose it is only a read can show, so nothing is written to it before.
    const own = target?.system === record.system && target.recordId === record.id;
    return !own || isWrite(callClass);
  });
}

const endpointOf = ({ url, connection }: Destination): Endpoint => ({
  scheme: url.protocol === 'http:' ? 'http' : 'https',
  port: portOf(url),
  connection,
});

/**
 * The path of a call within its root run: children and position, or that of the call it undoes. With the envelope's ids, the
 * idempotency key.
 */
export function callPath(envelope: Envelope, call: Pick<GovernedCall, 'position' | 'undoOf'>): string {
  if (call.undoOf !== null) return undoPath(call.undoOf);
  const address = parseWorkflowId(envelope.workflowId);
  const children = address?.kind === 'run' ? address.path.slice(1) : '';
  return [children, positionPath(call.position)].filter(Boolean).join('/');
}

/**
 * Where a call would be sent, and as whom: what was sent to one account is neither sent again to another nor looked for there
 * (promise T3). A URL out of the arguments is in the call's own digest already.
 */
export function accountOf(call: GovernedCall, { record, sealed }: CallContext): Digest {
  const destination = call.destination(record);
  const url = destination && 'url' in destination ? destination.url.href : null;
  return digestOf({ url, credential: sealed && { capability: sealed.capability, version: sealed.version } });
}

/** The key that goes to systems outside: of the workflow and the position, never of the arguments (promise T2). */
export function idempotencyKey(envelope: Envelope, path: string): string {
  return outsideKey(envelope.tenantId, envelope.environment, envelope.rootRunId, path);
}
