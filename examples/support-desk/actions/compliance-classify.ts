import { z } from 'zod';
import { defineAction } from '../../../tools/define-action';
import { complianceOf } from './compliance';
import { draftOf } from './draft';

export const complianceClassify = defineAction({
  name: 'compliance.classify',
  description:
    'Check the subject and body of a mail before it is sent. Answers passed or failed with reasons, and the draft code that email.send asks for.',
  effect: 'read',
  args: z.object({ subject: z.string().min(1).max(200), body: z.string().min(1).max(20_000) }),
  result: z.strictObject({
    verdict: z.enum(['passed', 'failed']),
    reasons: z.array(z.string()),
    draft: z.string(),
  }),
  system: null,
  timeout: '2s',
  facts: {
    schema: z.object({ compliance: z.enum(['passed', 'failed']), draft: z.string() }),
    from: (_args, result) => ({ compliance: result.verdict, draft: result.draft }),
  },
  run: (_ctx, mail) => {
    const reasons = complianceOf(`${mail.subject}\n${mail.body}`);
    const verdict = reasons.length === 0 ? ('passed' as const) : ('failed' as const);
    return Promise.resolve({ verdict, reasons, draft: draftOf(mail) });
  },
});
