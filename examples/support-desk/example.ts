import path from 'node:path';
import type { Example, ExampleContext } from '../../tools/example';
import { TENANTS, tenantData, tenantDocuments, type Tenant } from './data';
import { approvalsScenario } from './scenarios/approvals';
import { crashScenario } from './scenarios/crash';
import { floodScenario } from './scenarios/flood';
import { killScenario } from './scenarios/kill';
import { mainScenario } from './scenarios/main';
import { rollbackScenario } from './scenarios/rollback';
import { startWorld, type World } from './world';

/** What the scripted model calls itself. */
const SCRIPTED_MODEL = 'scripted-support-1';

/**
 * A support desk for three companies, with the systems that it works in. Its models are scripted, over real HTTP,
 * unless the operator names a provider.
 */
export const example: Example = {
  name: 'support-desk',
  appModule: `${path.join(__dirname, 'app')}${path.extname(__filename)}`,
  start: async (context) => {
    const world = await startWorld({
      stateDir: context.stateDir,
      spawn: (name, modulePath, env) => context.spawn(name, modulePath, env),
      scriptedModel: TENANTS.some((tenant) => context.model(tenant) === undefined),
    });
    context.say('helpdesk, CRM, payments and mail are up, each a process of its own');
    for (const tenant of TENANTS) await settle(context, world, tenant);
  },
  scenarios: {
    main: mainScenario,
    kill: killScenario,
    crash: crashScenario,
    rollback: rollbackScenario,
    approvals: approvalsScenario,
    flood: floodScenario,
  },
};

/** Documents first: a credential and a knowledge base need a tenant to belong to. */
async function settle(context: ExampleContext, world: World, tenant: Tenant): Promise<void> {
  const real = context.model(tenant);
  await context.apply(tenantDocuments(tenant, documentValues(world.urls, context.environment, real)));
  const credentials = { ...world.credentials(tenant), ...(real ? { 'openai:generate': real.apiKey } : {}) };
  for (const [capability, secret] of Object.entries(credentials))
    await context.putCredential(tenant, capability, secret);
  await context.putKnowledge(tenant, tenantData(tenant).knowledge);
  context.say(
    `${tenant}: policy, quota class, credentials and knowledge are in place; model: ${real ? real.name : 'scripted'}`,
  );
}

/** What the documents in `tenants/` leave open. */
export function documentValues(
  urls: World['urls'],
  environment: string,
  real?: { baseUrl: string; name: string },
): Record<string, string> {
  const port = (url: string | undefined): string => (url === undefined ? '0' : new URL(url).port);
  const model = real?.baseUrl ?? `http://models.localhost:${port(urls.models)}/v1`;
  return {
    ENVIRONMENT: environment,
    HELPDESK_PORT: port(urls.helpdesk),
    CRM_PORT: port(urls.crm),
    PAYMENTS_PORT: port(urls.payments),
    MAIL_PORT: port(urls.mail),
    MODEL_URL: model,
    MODEL_HOST: new URL(model).hostname,
    MODEL_NAME: real?.name ?? SCRIPTED_MODEL,
  };
}
