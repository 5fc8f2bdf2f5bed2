import { spawn } from 'node:child_process';
import { appendFileSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bearer, OneSystem, payment } from './one-system';
import { Processes } from './processes';

const processes = new Processes();
afterEach(() => processes.end());

const payments = (): OneSystem => new OneSystem('payments', ['read', 'refund'], processes);
const refundToken = bearer('acme-1', 'refund');
const refundOf = (amountCents: number) => ({ amountCents, reason: 'test', reference: 'TKT-1' });

describe('crashes', () => {
  it('T3 a reply lost after the change: killed, started again on the same port, the key answers with what was done', async () => {
    const system = await payments().start({ faults: true });
    const { url } = system;
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    await system.faults({ dropReplies: 1 });
    const ask = () =>
      system.ask('POST', '/payments/pay_1/refunds', { token: refundToken, key: 'k-1', body: refundOf(100) });
    await expect(ask()).rejects.toThrow();
    await system.kill();
    await system.start();
    expect(system.url).toBe(url);
    const again = await ask();
    expect([again.status, again.replayed, system.effects().length]).toEqual([201, true, 1]);
    const kept = await system.ask('GET', '/payments/pay_1', { token: bearer('acme-1', 'read') });
    expect(kept.body).toMatchObject({ amountCents: 500, refundedCents: 100 });
    const byKey = await system.ask('GET', '/requests/k-1', { token: refundToken });
    expect([byKey.status, byKey.body]).toEqual([200, again.body]);
    expect((await system.ask('GET', '/requests/k-2', { token: refundToken })).status).toBe(404);
  });

  it('T3 SIGKILL amid writes loses none that was answered and repeats none', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 100_000)]);
    const keys = Array.from({ length: 60 }, (_, index) => `k-${index}`);
    const send = (key: string) =>
      system.ask('POST', '/payments/pay_1/refunds', { token: refundToken, key, body: refundOf(1) });
    // Not all at once: on a fast machine all would be answered before the kill.
    const flood = Promise.allSettled(
      keys.map(async (key, index) => {
        await sleep(index * 5);
        return [key, (await send(key)).body.id] as const;
      }),
    );
    while (system.pid && readFileSync(system.effectsFile, 'utf8').split('\n').length < 10) await sleep(1);
    await system.kill();
    const answered = (await flood).flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    await system.start();
    const ids = new Map(
      await Promise.all(keys.map(async (key) => [key, (await send(key)).body.id] as const)),
    );
    for (const [key, id] of answered) expect(ids.get(key)).toBe(id);
    expect(answered.length).toBeLessThan(keys.length);
    expect(system.effects().map(({ seq }) => seq)).toEqual(keys.map((_, index) => index + 1));
    expect(new Set(ids.values()).size).toBe(keys.length);
    const kept = await system.ask('GET', '/payments/pay_1', { token: bearer('acme-1', 'read') });
    expect(kept.body.refundedCents).toBe(keys.length);
  });

  it('T3 a line cut short by a crash is dropped, and the next change follows the last whole one', async () => {
    const system = await payments().start();
    await system.bringIn([payment('pay_1', 'acme-1', 500)]);
    await system.ask('POST', '/payments/pay_1/refunds', { token: refundToken, key: 'a', body: refundOf(1) });
    await system.kill();
    appendFileSync(system.effectsFile, '{"seq":2,"at":"20');
    await system.start();
    await system.ask('POST', '/payments/pay_1/refunds', { token: refundToken, key: 'b', body: refundOf(1) });
    expect(system.effects().map(({ seq, idempotencyKey }) => [seq, idempotencyKey])).toEqual([
      [1, 'a'],
      [2, 'b'],
    ]);
  });

  it('T3 a second process on the same state is refused while the first lives', async () => {
    const system = await payments().start();
    await expect(system.start()).rejects.toThrow(/already serves/);
  }, 30_000);

  it('U4 a system ends with the process that started it', async () => {
    const system = payments();
    const register = path.join(__dirname, 'register-typescript.cjs');
    const module = path.join(__dirname, '../../examples/support-desk/systems/payments.ts');
    const script = `require('node:child_process').spawn(process.execPath, ['--require', ${JSON.stringify(register)}, ${JSON.stringify(module)}], { stdio: 'inherit' }); setInterval(() => {}, 1000);`;
    const middle = spawn(process.execPath, ['-e', script], {
      env: { PATH: process.env.PATH ?? '', SYSTEM_STATE: system.stateDir, SYSTEM_TOKENS: system.tokenFile },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const url = await new Promise<string>((resolve) =>
      middle.stdout.once('data', (line: Buffer) =>
        resolve((JSON.parse(line.toString('utf8')) as { url: string }).url),
      ),
    );
    const health = (await (await fetch(`${url}/healthz`)).json()) as { pid: number };
    middle.kill('SIGKILL');
    const alive = (): Promise<boolean> =>
      fetch(`${url}/healthz`).then(
        () => true,
        () => false,
      );
    const deadline = Date.now() + 5_000;
    while ((await alive()) && Date.now() < deadline) await sleep(50);
    const outlived = await alive();
    if (outlived) process.kill(health.pid, 'SIGKILL');
    expect(outlived).toBe(false);
  }, 20_000);
});
