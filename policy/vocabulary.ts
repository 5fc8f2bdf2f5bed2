import type { SchemaJson } from '@cedar-policy/cedar-wasm/nodejs';
import type { Action } from '../contracts/action';
import type { Agent } from '../contracts/agent';
import { MODEL_ACTION } from '../contracts/names';
import type { PolicyRequest } from '../contracts/policy-decision';
import { classesOf } from './data-classes';
import {
  type Field,
  type RecordShape,
  BOOLEAN,
  LONG,
  STRING,
  cedarType,
  optional,
  record,
  shapeOf,
} from './shapes';

/** The actions and agents of an app, by name. */
export interface Registry {
  readonly actions: ReadonlyMap<string, Action>;
  readonly agents: ReadonlyMap<string, Agent>;
}

/** What rules may name: the actions of an app, and for each the shape of `context`. */
export interface Vocabulary {
  /** By action; model calls are the action `model.generate`. */
  readonly contexts: ReadonlyMap<string, RecordShape>;
  readonly effects: ReadonlyMap<string, PolicyRequest['effect']>;
  /** Data classes that documents may name. */
  readonly dataClasses: ReadonlySet<string>;
}

/** Attributes of `principal`, the agent that asks. */
export const AGENT = record({ id: STRING, class: STRING });

/** Makes the vocabulary from the argument and fact schemas of an app's actions. */
export function vocabularyOf(actions: ReadonlyMap<string, Action>): Vocabulary {
  const facts = factsOf([...actions.values()]);
  const always = {
    facts,
    workspace: STRING,
    environment: STRING,
    effect: STRING,
    reversible: STRING,
    undo: BOOLEAN,
    requester: record({ kind: STRING, subject: STRING }),
    target: optional(record({ system: STRING, recordId: STRING })),
    system: optional(STRING),
    destination: optional(STRING),
    destinationScheme: STRING,
    destinationPort: LONG,
    connection: BOOLEAN,
    dataClasses: { kind: 'set', element: STRING } as const,
  };
  const contexts = new Map<string, RecordShape>();
  const effects = new Map<string, PolicyRequest['effect']>();
  for (const [name, action] of actions) {
    contexts.set(name, record({ ...always, args: shapeOf(action.args) }));
    effects.set(name, action.effect);
  }
  contexts.set(MODEL_ACTION, record({ ...always, args: record({}), model: STRING }));
  effects.set(MODEL_ACTION, 'model');
  return { contexts, effects, dataClasses: classesOf(actions.values()) };
}

/** All facts that any action sets, each optional: a run has those that its calls so far have set. */
function factsOf(actions: readonly Action[]): RecordShape {
  const fields = new Map<string, Field>();
  const leftOut = new Map<string, string>();
  for (const action of actions) {
    if (!action.facts) continue;
    const shape = shapeOf(action.facts.schema);
    for (const [name, why] of shape.leftOut) leftOut.set(name, why);
    for (const [name, field] of shape.fields) {
      const other = fields.get(name)?.shape;
      if (field.shape.kind === 'set' || field.shape.kind === 'record')
        leftOut.set(name, 'a fact is one value');
      else if (other && other.kind !== field.shape.kind)
        leftOut.set(name, 'actions set it with different types');
      else fields.set(name, optional(field.shape));
    }
  }
  for (const name of leftOut.keys()) fields.delete(name);
  return { kind: 'record', fields, leftOut };
}

/** The Cedar schema in which the rules of one action are type-checked. */
export function schemaOf(action: string, context: RecordShape): SchemaJson<string> {
  return {
    '': {
      entityTypes: { Agent: { shape: cedarType(AGENT) }, Workspace: {} },
      actions: {
        [action]: {
          appliesTo: { principalTypes: ['Agent'], resourceTypes: ['Workspace'], context: cedarType(context) },
        },
      },
    },
  };
}

/** What `context` is made of for one question. Attributes that a question does not have are absent, never null. */
export function contextOf(request: PolicyRequest, destination: string | undefined): Record<string, unknown> {
  return {
    args: request.action === MODEL_ACTION ? {} : request.args,
    facts: request.facts,
    workspace: request.workspaceId,
    environment: request.environment,
    effect: request.effect,
    reversible: request.reversible,
    undo: request.undo,
    requester: request.principal,
    target: request.target ?? undefined,
    system: request.system ?? undefined,
    destination,
    ...wayOf(request),
    model: request.model ?? undefined,
    dataClasses: request.dataClasses,
  };
}

/** How the call would connect; `none` and 0 for one that stays inside. */
function wayOf({ destination, endpoint }: PolicyRequest): Record<string, unknown> {
  if (destination === null) return { destinationScheme: 'none', destinationPort: 0, connection: false };
  const { scheme, port, connection } = endpoint ?? { scheme: 'https', port: 443, connection: false };
  return { destinationScheme: scheme, destinationPort: port, connection };
}
