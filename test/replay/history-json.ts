import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { temporal } from '@temporalio/proto';

export type History = temporal.api.history.v1.IHistory;

/**
 * Histories as text, one event a line: enums by name, bytes in base64, 64-bit numbers as text, and no stack traces, which no
 * replay reads and which name folders of the machine. The SDK's own `historyToJSON` needs its packages to share one copy of
 * protobufjs, which an installation need not have.
 */
export function historyToText(history: History): string {
  const message = temporal.api.history.v1.History.fromObject(history);
  const { events } = temporal.api.history.v1.History.toObject(message, {
    longs: String,
    bytes: String,
    enums: String,
  }) as { events: object[] };
  const texts = events.map((event) => JSON.stringify(event, withoutStackTraces));
  return `{"events":[\n${texts.join(',\n')}\n]}\n`;
}

/** What a workflow or an activity said is in bytes, so by this name only the failures' own field goes. */
const withoutStackTraces = (key: string, value: unknown): unknown =>
  key === 'stackTrace' ? undefined : value;

export function historyFromText(text: string): History {
  return temporal.api.history.v1.History.fromObject(JSON.parse(text) as object);
}

/** Recorded by scripts/record-histories.ts, and never edited. */
export const HISTORIES = path.join(__dirname, 'histories');

export interface Golden {
  readonly file: string;
  readonly workflow: string;
  readonly name: string;
  readonly version: number;
  readonly history: History;
}

/** All golden histories, in the order of their names. */
export function goldenHistories(): Golden[] {
  return readdirSync(HISTORIES)
    .sort()
    .map((file) => {
      const match = /^([A-Za-z]+)\.([a-z0-9-]+)\.v(\d+)\.json$/.exec(file);
      if (!match) throw new Error(`${file}: a golden history is called <workflow>.<case>.v<n>.json`);
      return {
        file,
        workflow: match[1] ?? '',
        name: match[2] ?? '',
        version: Number(match[3]),
        history: historyFromText(readFileSync(path.join(HISTORIES, file), 'utf8')),
      };
    });
}
