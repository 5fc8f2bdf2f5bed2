import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { EffectRow, type Put } from '../../examples/support-desk/systems/store';
import { tokenDigest } from '../../examples/support-desk/systems/tokens';
import type { Processes } from './processes';

export interface Answer {
  readonly status: number;
  readonly replayed: boolean;
  readonly body: Record<string, unknown>;
}

/** Tokens of these tests: `<account>/<capability>` is its own value. */
export const bearer = (account: string, capability: string): string =>
  `${account}.${capability}.0123456789abcdef`;

const ACCOUNTS = ['acme-1', 'globex-1'];

/** One system of the support desk as a process on a folder of its own, to be killed and started again. */
export class OneSystem {
  readonly stateDir: string;
  url = '';
  pid = 0;

  constructor(
    readonly name: 'helpdesk' | 'crm' | 'payments' | 'mail',
    readonly capabilities: readonly string[],
    readonly processes: Processes,
  ) {
    this.stateDir = processes.folder('one-system-');
    this.writeTokens(bearer);
  }

  get tokenFile(): string {
    return path.join(this.stateDir, 'tokens.json');
  }

  writeTokens(valueOf: typeof bearer): void {
    const one = (account: string, capability: string) => ({
      name: `${account}/${capability}`,
      sha256: tokenDigest(valueOf(account, capability)),
      account,
      may: [capability],
    });
    const tokens = ACCOUNTS.flatMap((account) =>
      this.capabilities.map((capability) => one(account, capability)),
    );
    writeFileSync(this.tokenFile, JSON.stringify({ tokens: [...tokens, one('intake', 'intake')] }));
  }

  async start(flags: { faults?: boolean; overbroad?: boolean } = {}): Promise<this> {
    const module = path.join(__dirname, '../../examples/support-desk/systems', `${this.name}.ts`);
    const env = {
      SYSTEM_STATE: this.stateDir,
      SYSTEM_TOKENS: this.tokenFile,
      SYSTEM_FAULTS: flags.faults ? '1' : '0',
      SYSTEM_OVERBROAD: flags.overbroad ? '1' : '0',
    };
    ({ url: this.url, pid: this.pid } = await this.processes.start(this.name, module, env));
    return this;
  }

  kill(): Promise<void> {
    return this.processes.kill(this.pid);
  }

  async ask(
    method: string,
    route: string,
    options: { token?: string; key?: string; body?: unknown } = {},
  ): Promise<Answer> {
    const response = await fetch(this.url + route, {
      method,
      headers: {
        ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
        ...(options.key === undefined ? {} : { 'idempotency-key': options.key }),
        ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      signal: AbortSignal.timeout(10_000),
    });
    const body = (await response.json()) as Record<string, unknown>;
    return {
      status: response.status,
      replayed: response.headers.get('idempotent-replayed') === 'true',
      body,
    };
  }

  bringIn(puts: readonly Put[]): Promise<Answer> {
    return this.ask('POST', '/intake', { token: bearer('intake', 'intake'), body: { puts } });
  }

  faults(set: Record<string, unknown>): Promise<Answer> {
    return this.ask('POST', '/_admin/faults', { body: set });
  }

  get effectsFile(): string {
    return path.join(this.stateDir, 'effects.jsonl');
  }

  effects(): EffectRow[] {
    return readFileSync(this.effectsFile, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => EffectRow.parse(JSON.parse(line)));
  }
}

export const payment = (id: string, account: string, amountCents: number): Put => ({
  collection: 'payments',
  record: { id, account, amountCents, refundedCents: 0, description: 'test' },
});

export const ticket = (id: string, account: string): Put => ({
  collection: 'tickets',
  record: {
    id,
    account,
    subject: 'A question',
    text: `written to ${account}`,
    status: 'open',
    category: 'question',
    priority: 'normal',
    openedAt: '2026-01-01T00:00:00.000Z',
    requester: 'Somebody',
    customer: { id: 'cus_x01', account },
    payments: [],
    replies: [],
  },
});
