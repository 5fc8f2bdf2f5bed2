import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { freePort } from '../../workers/embedded/ports';

/**
 * Gives a state directory ports to remember, free ones: test files that run beside each other would otherwise all begin
 * with Temporal's usual ports, and take them from each other between a stop and the next start.
 */
export async function rememberFreePorts(stateDir: string): Promise<void> {
  const [port, uiPort] = [await freePort(), await freePort()];
  mkdirSync(path.join(stateDir, 'temporal'), { recursive: true, mode: 0o700 });
  writeFileSync(path.join(stateDir, 'temporal', 'ports.json'), JSON.stringify({ port, uiPort }), {
    mode: 0o600,
  });
}
