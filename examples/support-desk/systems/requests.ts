import { Problem, type Route } from './server';

/**
 * `GET /requests/:key`: what became of a request whose answer was lost. Answers what that request was answered, or 404:
 * a change is in the log before anything is said, so that a request seen nowhere here has changed nothing so far.
 */
export const requestLookUp = (needs: readonly string[]): Route => ({
  method: 'GET',
  path: '/requests/:key',
  needs,
  handle: (asked) => {
    const row = asked.store.byKey(asked.token.account, asked.params.key ?? '');
    if (!row) throw new Problem(404, 'no request under this key');
    return { status: 200, body: row.answer.body };
  },
});
