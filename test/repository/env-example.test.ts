import { readFileSync } from 'node:fs';
import path from 'node:path';
import { envExample, SETTINGS } from '../../workers/settings';

test('U4 .env.example is what the settings generate, and has every one of them', () => {
  const file = readFileSync(path.join(__dirname, '..', '..', '.env.example'), 'utf8');
  expect(file).toBe(envExample());
  for (const name of Object.keys(SETTINGS)) expect(file).toContain(`# ${name}=`);
});
