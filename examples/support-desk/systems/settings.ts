import { z } from 'zod';

const Flag = z
  .enum(['0', '1'])
  .default('0')
  .transform((value) => value === '1');

const Settings = z.object({
  /** Folder that survives restarts: records, effects, port. */
  SYSTEM_STATE: z.string().min(1),
  /** JSON file of bearer tokens, read again when it changes. */
  SYSTEM_TOKENS: z.string().min(1),
  /** `1` opens the fault switches under `/_admin`; without it that path does not exist. */
  SYSTEM_FAULTS: Flag,
  /** `1` lets any token reach any account's records, as a vendor's all-accounts token does. */
  SYSTEM_OVERBROAD: Flag,
});

/** How one outside system was started. */
export interface SystemSettings {
  readonly stateDir: string;
  readonly tokenFile: string;
  readonly faults: boolean;
  readonly overbroad: boolean;
}

/** Reads the settings of a system's own process. Throws one Error that names every mistake. */
export function systemSettings(env: NodeJS.ProcessEnv): SystemSettings {
  const read = Settings.safeParse(env);
  if (!read.success) {
    const mistakes = read.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ');
    throw new Error(`cannot start this system: ${mistakes}`);
  }
  return {
    stateDir: read.data.SYSTEM_STATE,
    tokenFile: read.data.SYSTEM_TOKENS,
    faults: read.data.SYSTEM_FAULTS,
    overbroad: read.data.SYSTEM_OVERBROAD,
  };
}
