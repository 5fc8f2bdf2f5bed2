import type { TenantStore } from '../contracts/ports';
import type { Refusal } from '../contracts/refusal';
import type { MarkedPassage } from '../contracts/rows';
import type { TenantSession } from './session';
import { callsSql } from './sql';

const PUT = callsSql('put_knowledge', 5, 'refusal');
const REMOVE = callsSql('remove_knowledge', 3, 'removed');

/** The tenant's own documents. Scoped by partition, row security and key before anything is ranked (promise M1). */
export function knowledgeOf(
  session: TenantSession,
): Pick<TenantStore, 'searchKnowledge' | 'putKnowledge' | 'removeKnowledge'> {
  const { tenantId, environment } = session.scope;
  return {
    async searchKnowledge(query, limit) {
      const rows = await session.call<{
        document_id: string;
        title: string;
        body: string;
        score: number;
        tenant_id: string | null;
        environment: string | null;
      }>(callsSql('search_knowledge', 4), [tenantId, environment, storableText(query), limit]);
      return rows.map((row): MarkedPassage => ({
        documentId: row.document_id,
        title: row.title,
        text: row.body,
        score: row.score,
        marker: { tenantId: row.tenant_id, environment: row.environment, runId: null },
      }));
    },

    async putKnowledge({ documentId, title, text }) {
      const [row] = await session.call<{ refusal: Refusal | null }>(PUT, [
        ...[tenantId, environment, documentId, title, text],
      ]);
      return row?.refusal ? { kind: 'refused', refusal: row.refusal } : { kind: 'kept' };
    },

    async removeKnowledge(documentId) {
      const [row] = await session.call<{ removed: boolean }>(REMOVE, [tenantId, environment, documentId]);
      return row?.removed === true;
    },
  };
}

/** PostgreSQL's text holds no NUL; a model's question may. */
const storableText = (text: string): string => text.replaceAll('\0', ' ');
