/** Everything in a history as text, the bytes of its payloads as what they encode: to be searched for canaries. */
export function textOfHistory(history: unknown): string {
  const texts: string[] = [];
  const walk = (value: unknown): void => {
    if (typeof value === 'string') texts.push(value);
    else if (value instanceof Uint8Array)
      texts.push(Buffer.from(value).toString('utf8'), Buffer.from(value).toString('base64'));
    else if (typeof value === 'object' && value !== null) {
      for (const [key, part] of Object.entries(value)) {
        texts.push(key);
        walk(part);
      }
    }
  };
  walk(history);
  return texts.join('\n');
}
