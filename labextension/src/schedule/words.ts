/** How a schedule and its times are put into words. No DOM. */
import type { TranslationBundle } from '@jupyterlab/translation';

import type { Schedule } from '../api/contract';
import { ahead, clean, moment } from '../ui/format';

/** Characters of a sentence about a schedule, of a zone's name, of a schedule's name. */
const SENTENCE = 300;
const ZONE = 60;
export const NAME = 60;

const DAYS = 'Sun Mon Tue Wed Thu Fri Sat'.split(' ');
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const WALL =
  /^(\d{4})-(\d\d)-(\d\d)T(\d\d:\d\d)(?::(\d\d))?(?:\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/**
 * Return a time of the server as a clock in its zone shows it: `Tue Dec 1, 06:00 +01:00`; of another year than this
 * with its year; what is none, as it is.
 */
export function wall(text: string, now = new Date()): string {
  const [, year, month, day, time, seconds = '00', offset] =
    WALL.exec(text) ?? [];
  if (!time) {
    return clean(text, ZONE);
  }
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)));
  const clock = seconds === '00' ? time : `${time}:${seconds}`;
  const zone = offset === 'Z' ? '+00:00' : offset;
  const named = year === String(now.getFullYear()) ? '' : ` ${year}`;
  return `${DAYS[date.getUTCDay()]} ${MONTHS[date.getUTCMonth()]} ${date.getUTCDate()}${named}, ${clock} ${zone}`;
}

/** Return a time of the server as a clock here shows it. */
export function wallHere(text: string): string {
  const date = moment(text);
  return date ? wall(rfc(date)) : clean(text, ZONE);
}

/** Return a time with the offset that it has here. */
function rfc(date: Date): string {
  const east = -date.getTimezoneOffset();
  const here = new Date(date.getTime() + east * 60_000).toISOString();
  const minutes = Math.abs(east);
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  return `${here.slice(0, 19)}${east < 0 ? '-' : '+'}${two(minutes / 60)}:${two(minutes % 60)}`;
}

/** Return the name of this browser's time zone. */
export function zoneHere(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
}

/** Return the time zones to choose from, `others` among them: a server may know more than a browser. */
export function zones(...others: string[]): string[] {
  const known = Intl.supportedValuesOf('timeZone');
  const all = new Set([...known, 'UTC', zoneHere(), ...others]);
  all.delete('');
  return [...all].sort();
}

/** Say when a schedule fires: `At 06:00 on Monday through Friday (Europe/Berlin)`. */
export function whenWords(
  one: Pick<Schedule, 'explained' | 'schedule' | 'timezone'>
): string {
  return `${clean(one.explained || one.schedule, SENTENCE)} (${clean(one.timezone, ZONE)})`;
}

/** Whether a schedule that is not active has come to its end, rather than being paused. */
export function isOver(one: Schedule, now: Date): boolean {
  const until = moment(one.until);
  const isOnce =
    /^at /i.test(one.schedule) && !!(one.last_time || one.misfires);
  return !one.active && !one.paused && (isOnce || (!!until && until < now));
}

/** Return a time as a clock in a zone shows it, to be typed: `2026-12-24T18:00`; the end of a day is its date. */
export function typed(text: string | null, zone: string): string {
  const date = moment(text);
  if (!date) {
    return text ?? '';
  }
  try {
    const format = new Intl.DateTimeFormat('sv', {
      timeZone: zone,
      dateStyle: 'short',
      timeStyle: 'medium'
    });
    const [day, time] = format.format(date).split(' ');
    return time === '23:59:59' ? day : `${day}T${time.replace(/:00$/, '')}`;
  } catch {
    return text ?? ''; // a zone that this browser does not know
  }
}

/** Say when a schedule fires next: `next in 3 h`; or why it does not. */
export function nextWords(
  one: Schedule,
  now: Date,
  trans: TranslationBundle
): string {
  const next = moment(one.next_time);
  if (one.active && next) {
    return trans.__('next %1', ahead(next, now));
  }
  return isOver(one, now) ? trans.__('over') : trans.__('paused');
}

/** Say what went wrong with a schedule's last firing that gave no job; nothing where none did. */
export function misfireWords(one: Schedule, trans: TranslationBundle): string {
  if (!one.misfires) {
    return '';
  }
  const head = trans._n(
    '%1 firing without a job',
    '%1 firings without a job',
    one.misfires
  );
  return one.misfire
    ? trans.__('%1; last: %2', head, clean(one.misfire, SENTENCE))
    : head;
}
