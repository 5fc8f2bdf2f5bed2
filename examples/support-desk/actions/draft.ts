import { digestOfTuple } from '../../../contracts/digest';

/**
 * A code for one exact mail. The classifier hands it out, `email.send` asks for it back and rules compare the two: what
 * is sent is what was judged. It is a digest and no secret; 16 hex digits.
 */
export const draftOf = (mail: { subject: string; body: string }): string =>
  digestOfTuple([mail.subject, mail.body]).slice(0, 16);
