import { DefaultLogger, Runtime, type LogLevel } from '@temporalio/worker';
import pino, { type Logger } from 'pino';
import type { Config } from './config';

/** Log lines as JSON on standard error; what may hold a secret or a payload is censored by key, wherever it stands. */
export function createLogger(level: Config['logLevel'], name: string): Logger {
  return pino(
    {
      name,
      level,
      redact: {
        paths: [
          'authorization',
          'headers',
          'args',
          'input',
          'result',
          'payload',
          'token',
          'secret',
          '*.authorization',
          '*.headers',
          '*.args',
          '*.token',
          '*.secret',
        ],
        censor: '[redacted]',
      },
    },
    pino.destination(2),
  );
}

/** Sends the SDK's own lines through ours. Once a process, before the first worker or connection. */
export function installTemporalLogging(logger: Logger): void {
  Runtime.install({
    logger: new DefaultLogger('WARN', ({ level, message, meta }) =>
      logger[pinoLevel(level)]({ temporal: named(meta) }, message),
    ),
    telemetryOptions: { logging: { filter: 'temporal_sdk_core=WARN', forward: {} } },
    shutdownSignals: [],
  });
}

const pinoLevel = (level: LogLevel): 'trace' | 'debug' | 'info' | 'warn' | 'error' =>
  level.toLowerCase() as 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** Of the SDK's metadata only what names things: its errors may carry arguments. */
function named(meta: Record<string | symbol, unknown> | undefined): Record<string, unknown> {
  const kept = [
    'workflowId',
    'runId',
    'activityId',
    'activityType',
    'workflowType',
    'taskQueue',
    'attempt',
    'namespace',
  ];
  const found = Object.fromEntries(
    kept.flatMap((key) => (meta?.[key] === undefined ? [] : [[key, meta[key]]])),
  );
  const error = meta?.['error'];
  return error instanceof Error
    ? { ...found, error: `${error.name}: ${error.message.slice(0, 300)}` }
    : found;
}
