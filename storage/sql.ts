/** The statement that calls one of our functions with so many parameters, its row or its one value named. */
export function callsSql(name: string, parameters: number, as?: string): string {
  const list = Array.from({ length: parameters }, (_, index) => `$${index + 1}`).join(', ');
  return as === undefined
    ? `select * from bulkhead.${name}(${list})`
    : `select bulkhead.${name}(${list}) as ${as}`;
}
