import { userInfo } from 'node:os';
import type { Environ } from './config';

/**
 * Who runs this process, for journals and histories. A container may run as a number that no account has: then what
 * USER or LOGNAME says, or that number.
 */
export function userName(env: Environ): string {
  try {
    return userInfo().username;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SYSTEM_ERROR') throw error;
    return env['USER'] || env['LOGNAME'] || String(process.getuid?.() ?? 'unknown');
  }
}
