import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';
import { plays, startModel, type TestModel } from '../support/model';
import { startOutside, type Outside } from '../support/outside';
import { testTemporal } from '../support/shared-temporal';
import { createTestStack, type TestStack } from '../support/stack';
import { readyTenant } from '../support/tenants';
import { until } from '../support/until';

/** Debian's, macOS's and the usual ones of others. */
const BROWSER = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
].find((file) => existsSync(file));
// Where the checks of a change run, a browser is there; elsewhere its absence is said and not hidden.
const testInBrowser = BROWSER || process.env['CI'] ? test : test.skip;

let stack: TestStack;
let outside: Outside;
let model: TestModel;
let browser: Browser | undefined;

beforeAll(async () => {
  [stack, outside, model] = await Promise.all([createTestStack(), startOutside('acct'), startModel(plays())]);
  for (const name of ['acme', 'globex'])
    await readyTenant(stack, { name, keeper: outside.url, models: model.url });
  if (BROWSER) {
    browser = await chromium.launch({
      executablePath: BROWSER,
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
  }
});

afterAll(async () => {
  await browser?.close();
  await stack.close();
  await Promise.all([outside.close(), model.close()]);
});

testInBrowser(
  'O6 Temporal’s UI lists runs by tenant and stop reason, and a run’s page says in plain words what happened, without payload',
  async () => {
    if (!browser) throw new Error('no Chromium: install it (Debian: apt-get install chromium)');
    model.script = plays(
      { call: [['record.read', { recordId: 'r1' }]] },
      {
        call: [
          ['note.write', { recordId: 'r1', text: 'canary-of-payload' }],
          ['note.write', { recordId: 'foreign', text: 'x' }],
        ],
      },
    );
    const run = await stack.run('acme', 'canary-of-input');
    const other = await stack.run('globex', 'go');
    await Promise.all([run.result({ timeoutMs: 30_000 }), other.result({ timeoutMs: 30_000 })]);
    const { uiUrl } = testTemporal();
    const at = (path: string): string => `${uiUrl}/namespaces/${stack.environment}/workflows${path}`;
    const page = await browser.newPage({ viewport: { width: 1500, height: 1400 } });

    await page.goto(at(`?query=${encodeURIComponent('`TenantId`="acme" AND `StopReason`="completed"')}`));
    await page.getByText(run.workflowId).first().waitFor({ timeout: 20_000 });
    expect(await page.getByText(other.workflowId).count()).toBe(0);

    const { runId } = await stack.temporal.workflow.getHandle(run.workflowId).describe();
    await page.goto(at(`/${encodeURIComponent(run.workflowId)}/${runId}/history`));
    // What workflows write as Markdown is shown in frames of its own, which the page replaces as it refreshes.
    const seen = async (): Promise<string> =>
      (
        await Promise.all(
          page.frames().map((frame) =>
            frame
              .locator('body')
              .innerText({ timeout: 2_000 })
              .catch(() => ''),
          ),
        )
      ).join('\n');
    await page.getByText('step 0 · ask the model').first().waitFor({ timeout: 20_000 });
    const shown = await seen();
    expect(shown).toMatch(/step 0\.1 · record\.read/);
    expect(shown).toMatch(/step 1\.1 · note\.write/);
    expect(shown).toContain('leave: free the slot, record why the run ended');
    await page.goto(at(`/${encodeURIComponent(run.workflowId)}/${runId}/user-metadata`));
    const metadata = await until('the current details', async () => {
      const text = await seen();
      return text.includes('the agent finished its work') && text.includes('on a record in keeper')
        ? text
        : undefined;
    });
    for (const words of [
      'test_worker for acme on a record in keeper',
      'completed: the agent finished its work',
      'note.write denied by a rule, schema or scope: scope.record_unknown',
      'record.read done',
    ]) {
      expect(metadata).toContain(words);
    }
    for (const text of [shown, metadata]) {
      for (const canary of ['canary-of-payload', 'canary-of-input', 'secret-acme'])
        expect(text).not.toContain(canary);
    }
    const picture = process.env['BULKHEAD_TEST_SCREENSHOT'];
    if (picture) await page.screenshot({ path: picture });
    await page.close();
  },
  90_000,
);
