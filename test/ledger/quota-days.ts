/** Local days as people count them, by the time zones of Intl: nothing shared with PostgreSQL's. Times are milliseconds since 1970. */

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const formats = new Map<string, Intl.DateTimeFormat>();

/** The date that a calendar on the wall shows there and then, as days since 1970. */
export function localDay(at: number, zone: string): number {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-CA', {
      timeZone: zone,
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
    });
    formats.set(zone, format);
  }
  const [year = 0, month = 0, date = 0] = format.format(at).split('-').map(Number);
  return Date.UTC(year, month - 1, date) / DAY;
}

const ends = new Map<string, number>();

/** The first moment at which the calendar there shows a later date than this. */
export function endOfDay(day: number, zone: string): number {
  const key = `${day} ${zone}`;
  const known = ends.get(key);
  if (known !== undefined) return known;
  // No zone is further from UTC than 14 hours, and clocks are changed at quarters of an hour.
  let at = (day + 1) * DAY - 15 * HOUR;
  while (localDay(at, zone) <= day) at += HOUR / 4;
  ends.set(key, at);
  return at;
}
