import { checkDocuments } from '../../policy/compile';
import { formatMistakes, parseDocuments, type ParsedDocument } from '../../policy/documents';
import { textOf } from './command';
import type { CliApp, CliContext } from './context';
import { EXIT, Exit } from './exit';

/**
 * The documents of the files, or all mistakes of all files on standard error and exit code 1: nothing is applied while
 * one of them has a mistake. With an app, names of agents and actions and the types in conditions are checked too.
 */
export async function readDocuments(
  context: CliContext,
  files: readonly string[],
  app?: CliApp,
): Promise<ParsedDocument[]> {
  const found: ParsedDocument[] = [];
  let wrong = false;
  for (const file of files) {
    const text = await textOf(context, file);
    const read = app ? checkDocuments(text, app) : parseDocuments(text);
    if (read.ok) found.push(...read.documents);
    else {
      wrong = true;
      context.say(formatMistakes(read.mistakes, file === '-' ? 'standard input' : file));
    }
  }
  if (wrong) throw new Exit(EXIT.failed);
  return found;
}
