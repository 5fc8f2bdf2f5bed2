import { z } from 'zod';
import { runSystem } from './process';
import { parsed } from './server';

const Change = z.strictObject({
  field: z.enum(['address', 'phone', 'email']),
  value: z.string().min(3).max(300),
  reference: z.string(),
});

runSystem({
  name: 'crm',
  keysHonouredForMs: null,
  routes: [
    {
      method: 'GET',
      path: '/customers/:id',
      needs: ['read', 'write'],
      handle: (asked) => ({ status: 200, body: asked.owned('customers', asked.params.id ?? '') }),
    },
    {
      method: 'PATCH',
      path: '/customers/:id',
      needs: ['write'],
      handle: (asked) => {
        const customer = asked.owned('customers', asked.params.id ?? '');
        const { field, value } = parsed(Change, asked.body);
        const record = { ...customer, [field]: value };
        return {
          effect: {
            operation: 'customer.update',
            recordId: record.id,
            account: record.account,
            puts: [{ collection: 'customers', record }],
            answer: { status: 200, body: record },
          },
        };
      },
    },
  ],
});
