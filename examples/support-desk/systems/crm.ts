import { z } from 'zod';
import { runSystem } from './process';
import { requestLookUp } from './requests';
import { parsed, Problem } from './server';

const Change = z.strictObject({
  field: z.enum(['address', 'phone', 'email']),
  value: z.string().min(1).max(300),
  reference: z.string(),
  /** Change it only where it still reads so: whoever takes a change back must not take a later one with it. */
  expected: z.string().optional(),
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
        const { field, value, expected } = parsed(Change, asked.body);
        if (expected !== undefined && customer[field] !== expected)
          throw new Problem(412, `the ${field} of ${customer.id} was changed since`);
        const record = { ...customer, [field]: value };
        return {
          effect: {
            operation: 'customer.update',
            recordId: record.id,
            account: record.account,
            puts: [{ collection: 'customers', record }],
            answer: { status: 200, body: { ...record, previous: { field, value: customer[field] } } },
          },
        };
      },
    },
    requestLookUp(['write']),
  ],
});
