import { defineApp } from '../../tools/app';
import { complianceClassify } from './actions/compliance-classify';
import { customerRead } from './actions/customer-read';
import { customerUpdate } from './actions/customer-update';
import { emailSend } from './actions/email-send';
import { knowledgeSearch } from './actions/knowledge-search';
import { paymentRead } from './actions/payment-read';
import { paymentRefund } from './actions/payment-refund';
import { ticketRead } from './actions/ticket-read';
import { ticketReply } from './actions/ticket-reply';
import { ticketSearch } from './actions/ticket-search';
import { ticketUpdate } from './actions/ticket-update';
import { webFetch } from './actions/web-fetch';
import { supportGoodwill } from './agents/support-goodwill';
import { supportTriage } from './agents/support-triage';

/** The support desk as the workers load it. */
export const app = defineApp({
  name: 'support-desk',
  actions: [
    complianceClassify,
    customerRead,
    customerUpdate,
    emailSend,
    knowledgeSearch,
    paymentRead,
    paymentRefund,
    ticketRead,
    ticketReply,
    ticketSearch,
    ticketUpdate,
    webFetch,
  ],
  agents: [supportTriage, supportGoodwill],
});
