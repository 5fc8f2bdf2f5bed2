import { z } from 'zod';
import { runSystem } from './process';
import { requestLookUp } from './requests';
import { parsed } from './server';

/** As common senders have it: a repeated key is recognised for a day, then it is a new message. */
const DAY_MS = 86_400_000;

const NewMessage = z.strictObject({
  to: z.email(),
  subject: z.string().min(1).max(200),
  body: z.string().min(1).max(20_000),
  reference: z.string(),
});

runSystem({
  name: 'mail',
  keysHonouredForMs: DAY_MS,
  routes: [
    {
      method: 'POST',
      path: '/messages',
      needs: ['send'],
      handle: (asked) => {
        const { to, subject, body } = parsed(NewMessage, asked.body);
        const record = {
          id: `msg_${String(asked.nextSeq).padStart(8, '0')}`,
          account: asked.token.account,
          to,
          subject,
          body,
        };
        return {
          effect: {
            operation: 'message.send',
            recordId: record.id,
            account: record.account,
            puts: [{ collection: 'messages', record }],
            answer: { status: 202, body: { id: record.id, account: record.account, to, status: 'queued' } },
          },
        };
      },
    },
    {
      method: 'GET',
      path: '/messages/:id',
      needs: ['send'],
      handle: (asked) => {
        const { id, account, to } = asked.owned('messages', asked.params.id ?? '');
        return { status: 200, body: { id, account, to, status: 'queued' } };
      },
    },
    requestLookUp(['send']),
  ],
});
