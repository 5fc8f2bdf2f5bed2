import type { ExampleContext } from '../../../tools/example';

/** Who types a command: whose token goes with it. */
export interface Typist {
  readonly who: string;
  readonly token: string;
}

/** What a command printed, and what was wrong with it; empty where all is as it should be. */
export interface Typed {
  readonly output: string;
  readonly wrong: string[];
}

/** How a command must end, and as whom it is typed; of what it prints only lines that fit `shown` are shown. */
export interface Typing {
  readonly as?: Typist;
  readonly code?: number;
  readonly says?: readonly (string | RegExp)[];
  readonly shown?: RegExp;
}

/** Runs `bulkhead …` as a person types it, shows what it prints, and holds its exit code and output to what they must be. */
export async function typed(
  context: ExampleContext,
  words: readonly string[],
  { as, code = 0, says = [], shown = /./ }: Typing = {},
): Promise<Typed> {
  const ended = await context.command(words, as);
  const lines = ended.output.split('\n').filter((line) => shown.test(line));
  for (const line of lines) context.say(`  ${line}`);
  const name = `bulkhead ${words.slice(0, 2).join(' ')}`;
  return {
    output: ended.output,
    wrong: [
      ...(ended.code === code ? [] : [`${name} ended with ${ended.code} instead of ${code}`]),
      ...says
        .filter((what) =>
          typeof what === 'string' ? !ended.output.includes(what) : !what.test(ended.output),
        )
        .map((what) => `${name} does not say ${String(what)}`),
    ],
  };
}

/** `bulkhead token`: this person at acme's desk, with these roles. Throws where there is no development issuer. */
export async function signIn(
  context: ExampleContext,
  who: string,
  roles: readonly string[],
): Promise<Typist> {
  const words = ['token', '--tenant', 'acme', '--role', ...roles, '--subject', who];
  const { code, output } = await context.command(words);
  const token = output.trim().split('\n').at(-1) ?? '';
  if (code !== 0 || token === '') throw new Error(`no token for ${who}: bulkhead token ended with ${code}`);
  return { who, token };
}
