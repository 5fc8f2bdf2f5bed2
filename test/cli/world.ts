import { randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CliContext, CliRuntime } from '../../client/cli/context';
import { buildProgram, runProgram } from '../../client/cli/program';
import { generateEnvelopeKeys } from '../../secrets/envelope-keys';
import { openRuntime } from '../../workers/cli-runtime';
import { loadConfig } from '../../workers/config';
import { testTemporal } from '../support/shared-temporal';
import { createTestStack, type TestStack, type TestStackOptions } from '../support/stack';

/** What a command printed and how it ended. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly said: string;
}

export interface CliRunOptions {
  readonly stdin?: string;
  readonly env?: Record<string, string>;
  /** `null`: the process knows no app. */
  readonly app?: null;
  /** Stands in for parts of the runtime. */
  readonly runtime?: Partial<CliRuntime>;
}

/** The command line over a real database and Temporal, in this process. */
export interface CliWorld {
  readonly stack: TestStack;
  /** The settings, for a command in a process of its own. */
  readonly environment: Readonly<Record<string, string>>;
  run(args: string[], more?: CliRunOptions): Promise<Ran>;
  /** Writes a file and answers its path; `${ENV}` in it is the environment. */
  file(name: string, text: string): string;
  close(): Promise<void>;
}

export async function createCliWorld(options: TestStackOptions = { workers: false }): Promise<CliWorld> {
  const stack = await createTestStack(options);
  const keys = await generateEnvelopeKeys();
  const directory = mkdtempSync(join(tmpdir(), 'bulkhead-cli-'));
  const environment = {
    TEMPORAL_ADDRESS: testTemporal().address,
    BULKHEAD_ENVIRONMENT: stack.environment,
    BULKHEAD_STATE_DIR: directory,
    BULKHEAD_DATABASE_APP_URL: stack.database.appUrl,
    BULKHEAD_DATABASE_OPERATOR_URL: stack.database.operatorUrl,
    BULKHEAD_MASTER_KEY: randomBytes(32).toString('base64'),
    BULKHEAD_ENVELOPE_SIGNING_KEY: JSON.stringify(keys.signingKey),
    BULKHEAD_TOKEN_ISSUER: 'urn:test:cli',
    BULKHEAD_TOKEN_JWKS: JSON.stringify(keys.jwks),
    BULKHEAD_DEV_ISSUER_KEY: JSON.stringify(keys.signingKey),
  };
  return {
    stack,
    environment,
    async run(args, more = {}) {
      let out = '';
      let said = '';
      const context: CliContext = {
        open: (named) => ({
          ...openRuntime(loadConfig({ ...environment, ...more.env }), named, {
            app: () => Promise.resolve(more.app === null ? undefined : stack.parts.app),
            bundle: () => Promise.resolve({ codePath: testTemporal().bundlePath }),
          }),
          ...more.runtime,
        }),
        write: (text) => void (out += text),
        say: (text) => void (said += `${text}\n`),
        stdin: () => Promise.resolve(more.stdin),
        user: 'tester',
        signal: new AbortController().signal,
      };
      const code = await runProgram(buildProgram(context, '0.0.0', []), context, args);
      return { code, out, said };
    },
    file(name, text) {
      const path = join(directory, name);
      writeFileSync(path, text.replaceAll('${ENV}', stack.environment));
      return path;
    },
    close: () => stack.close(),
  };
}
