import { canonicalJson } from '../contracts/digest';
import type { CallClass } from '../contracts/ledger';
import type { TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import type { DeadLetter } from '../contracts/reviews';
import { orderedOf } from './follow-ups';
import { entryConditions, newest, type NewestOf } from './newest';
import type { TenantSession } from './session';
import { callsSql } from './sql';

interface Row {
  readonly letter_no: string;
  readonly run_id: string;
  readonly path: string;
  readonly action: string;
  readonly class: CallClass;
  readonly system: string | null;
  readonly attempts: number;
  readonly refusal: Refusal;
  readonly died: string;
  readonly state: DeadLetter['state'];
  readonly actor: string | null;
  readonly note: string | null;
  readonly decided: string | null;
}

const RETRY = callsSql('retry_dead_letter', 6);
const DISCARD = callsSql('discard_dead_letter', 6, 'kind');
const LETTERS: NewestOf = {
  from: 'bulkhead.dead_letters',
  columns: `letter_no, run_id, path, action, class, system, attempts, refusal, bulkhead.iso(died_at) as died, state, actor, note,
    bulkhead.iso(decided_at) as decided`,
  order: 'letter_no desc',
};

/** Calls of one tenant that used up their attempts (promise N5). */
export function deadLettersOf(
  session: TenantSession,
): Pick<TenantStore, 'deadLetters' | 'deadLetter' | 'retryDeadLetter' | 'discardDeadLetter'> {
  const { tenantId, environment } = session.scope;
  const ordered = orderedOf(session);

  return {
    async deadLetters(page) {
      const conditions = entryConditions(page, 'letter_no', `state = 'dead'`);
      return (await newest<Row>(session, LETTERS, page, conditions)).map(letter);
    },

    async deadLetter(letterNo) {
      const [row] = await newest<Row>(session, LETTERS, { limit: 1 }, [['letter_no = ?', letterNo]]);
      return row && letter(row);
    },

    async retryDeadLetter({ letterNo, actor, note }) {
      const [answer] = await session.call<{
        kind: 'ordered' | 'already' | 'absent' | 'refused';
        follow_up_no: string | null;
        message: string | null;
      }>(RETRY, [tenantId, environment, letterNo, actor, note, canonicalJson({ note })]);
      if (!answer) throw new Error('retry_dead_letter answered nothing');
      if (answer.kind === 'absent') return { kind: 'absent' };
      if (answer.kind === 'refused') return { kind: 'refused', message: answer.message ?? '' };
      return { kind: answer.kind, ...(await ordered(Number(answer.follow_up_no))) };
    },

    async discardDeadLetter({ letterNo, actor, note }) {
      const [answer] = await session.call<{ kind: 'discarded' | 'already' | 'absent' }>(DISCARD, [
        tenantId,
        environment,
        letterNo,
        actor,
        note,
        canonicalJson({ note }),
      ]);
      if (!answer) throw new Error('discard_dead_letter answered nothing');
      return answer.kind;
    },
  };
}

function letter(row: Row): DeadLetter {
  return {
    letterNo: Number(row.letter_no),
    runId: row.run_id,
    path: row.path,
    action: row.action,
    callClass: row.class,
    system: row.system,
    attempts: row.attempts,
    refusal: row.refusal,
    diedAt: row.died,
    state: row.state,
    actor: row.actor,
    note: row.note,
    decidedAt: row.decided,
  };
}
