import { pathToFileURL } from 'node:url';
import type { App } from '../tools/app';

/**
 * Loads the module that `BULKHEAD_APP` names. Throws an Error that says what to export where it has no usable `app`.
 *
 * @param modulePath absolute path of compiled JavaScript.
 */
export async function loadApp(modulePath: string): Promise<App> {
  const loaded = (await import(pathToFileURL(modulePath).href)) as {
    app?: unknown;
    default?: { app?: unknown };
  };
  const app = loaded.app ?? loaded.default?.app;
  if (isApp(app)) return app;
  throw new Error(
    `${modulePath} exports no \`app\`: export const app = defineApp({ name, actions, agents })`,
  );
}

const isApp = (value: unknown): value is App =>
  typeof value === 'object' &&
  value !== null &&
  'actions' in value &&
  value.actions instanceof Map &&
  'agents' in value &&
  value.agents instanceof Map;
