/** How times, sizes and a job's state are put into words, as in the package's own `display/`. No DOM. */
import type { Cell, Interpreter, Job, Progress } from '../api/contract';
import { IN_PROGRESS, keepsKernel, statusOf } from '../api/contract';

const TIME =
  /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?\s*([Zz]|[+-]\d\d:?\d\d)?$/;

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** States that a job reaches by running. */
const STARTED = ['running', 'succeeded', 'worker_error', 'worker_oom'];

/** Put a span of time into few words: `0.42 s`, `7.1 s`, `3 min 05 s`, `2 h 10 min`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) {
    return '';
  }
  const span = Math.max(seconds, 0);
  if (span < 9.95) {
    return `${span.toFixed(span < 0.995 ? 2 : 1)} s`;
  }
  const whole = round(span);
  if (whole < 60) {
    return `${whole} s`;
  }
  if (whole < 3600) {
    return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  }
  const minutes = Math.floor(whole / 60);
  if (minutes < 24 * 60) {
    return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  }
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

/** Return a time here: of today only the time, else with the day; one that falls twice in a night has its offset. */
export function local(date: Date, now = new Date()): string {
  const time = `${two(date.getHours())}:${two(date.getMinutes())}`;
  if (date.toDateString() === now.toDateString()) {
    return `${time}:${two(date.getSeconds())}${offset(date)}`;
  }
  const year = date.getFullYear();
  const month = two(date.getMonth() + 1);
  const day =
    year === now.getFullYear()
      ? `${MONTHS[date.getMonth()]} ${date.getDate()},`
      : `${year}-${month}-${two(date.getDate())}`;
  return `${day} ${time}${offset(date)}`;
}

/** Return a time here in full: `2026-03-04 05:06:07 +0100`. */
export function stamp(date: Date): string {
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()];
  return `${day} ${time.map(two).join(':')} ${zone(date)}`;
}

/** Return the offset of a time that the clock shows twice in a night, as it is put back; else nothing. */
function offset(date: Date): string {
  const isTwice = [-60, -30, 30, 60].some(minutes => {
    const other = new Date(date.getTime() + minutes * 60_000);
    return (
      other.getTimezoneOffset() - date.getTimezoneOffset() === minutes &&
      other.getHours() === date.getHours() &&
      other.getMinutes() === date.getMinutes()
    );
  });
  return isTwice ? ` ${zone(date)}` : '';
}

/** Return a time zone's offset from UTC: `+0100`. */
function zone(date: Date): string {
  const east = -date.getTimezoneOffset();
  const minutes = Math.abs(east);
  return `${east < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}${two(minutes % 60)}`;
}

/** Say how long ago something was, roughly: `just now`, `5 min ago`, `3 d ago`. */
export function age(date: Date | null, now = new Date()): string {
  if (date === null) {
    return '';
  }
  const seconds = (now.getTime() - date.getTime()) / 1000;
  if (seconds < 5) {
    return 'just now';
  }
  for (const [size, unit] of [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min']
  ] as const) {
    if (seconds >= size) {
      return `${Math.floor(seconds / size)} ${unit} ago`;
    }
  }
  return `${Math.floor(seconds)} s ago`;
}

/** Say how far ahead a time is, roughly: `now`, `in 20 s`, `in 5 min`, `in 3 d`. */
export function ahead(date: Date, now = new Date()): string {
  const seconds = (date.getTime() - now.getTime()) / 1000;
  for (const [size, unit] of [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's']
  ] as const) {
    // 59.5 min are an hour
    if (seconds >= size - size / 60) {
      return `in ${Math.round(seconds / size)} ${unit}`;
    }
  }
  return 'now';
}

/** Return a number of bytes in a unit that suits it. */
export function size(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined) {
    return '';
  }
  let value = bytes;
  let unit = 'B';
  for (const larger of UNITS.slice(1)) {
    if (Math.abs(value) < 1024) {
      break;
    }
    value /= 1024;
    unit = larger;
  }
  return value >= 100 || Number.isInteger(value)
    ? `${round(value)} ${unit}`
    : `${value.toFixed(1)} ${unit}`;
}

/** Return how much of a limit was used, in the limit's unit: `1.2 of 8 GiB`; without one, `1.2 GiB`. */
export function sizeOf(bytes: number, limit?: number | null): string {
  if (!limit) {
    return size(bytes);
  }
  const whole = size(limit);
  const unit = whole.slice(whole.lastIndexOf(' ') + 1);
  const value = bytes / 1024 ** UNITS.indexOf(unit);
  return value < 0.1 && bytes > 0
    ? `${size(bytes)} of ${whole}`
    : `${value >= 100 ? round(value) : Number(value.toFixed(1))} of ${whole}`;
}

/** Return a count as people write it: `3`, `0.25`, `1200`. */
export function number(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e15) {
    return String(value);
  }
  const [digits, power] = value.toExponential(3).split('e');
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 4) {
    const sign = exponent < 0 ? '-' : '+';
    return `${Number(digits)}e${sign}${two(Math.abs(exponent))}`;
  }
  return String(Number(value.toPrecision(4)));
}

/** Return what people call a job by: the end of its id. */
export function shortId(id: string): string {
  return id.slice(-4);
}

/** Return text on one line, with invisible characters (escapes, direction marks) spelt out; `limit` cuts. */
export function clean(text: string, limit = Infinity): string {
  const line = text
    .slice(0, 4 * limit + 64) // what is cut off need not be read
    .replace(/\p{White_Space}+/gu, ' ')
    .trim()
    .replace(/\p{C}/gu, escape);
  return cut(line, limit);
}

/** Cut a text to a number of characters; what was cut ends in `…`. */
export function cut(text: string, limit: number): string {
  if (text.length <= limit) {
    return text;
  }
  const characters = [...text];
  return characters.length <= limit
    ? text
    : `${characters
        .slice(0, limit - 1)
        .join('')
        .trimEnd()}…`;
}

/** Read a time of the contract; what is absent or can't be read is null. A time without a zone is UTC. */
export function moment(text: string | null | undefined): Date | null {
  const found = TIME.exec(text ?? '');
  if (!found) {
    return null;
  }
  const [, day, clock, part, zone = 'Z'] = found;
  const fraction = (part ?? '.').slice(1, 4).padEnd(3, '0'); // a cluster sends nanoseconds
  const offset = /^z$/i.test(zone)
    ? 'Z'
    : `${zone.slice(0, 3)}:${zone.slice(-2)}`;
  const date = new Date(`${day}T${clock}.${fraction}${offset}`);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** Return when a job was submitted; a cluster calls that `start_time`. */
export function created(job: Job): Date | null {
  return moment(job.created_time) ?? moment(job.start_time);
}

/**
 * Return the seconds that a job ran, so far or in all; null where it did not start.
 *
 * A cluster doesn't say when a job started: there it counts from its submission.
 */
export function took(job: Job, now = new Date()): number | null {
  const status = statusOf(job);
  const end = moment(job.end_time);
  const start =
    moment(job.start_time) ?? (STARTED.includes(status) ? created(job) : null);
  if (!start || (!end && !IN_PROGRESS.includes(status))) {
    return null;
  }
  const seen = moment(job.stale); // how long it runs by now is unknown
  return Math.max(((end ?? seen ?? now).getTime() - start.getTime()) / 1000, 0);
}

/** Return how much is done, from 0 to 1; null where the task did not say of how much. */
export function fraction(progress: Progress | null | undefined): number | null {
  if (!progress?.total || progress.total <= 0) {
    return null;
  }
  const share = progress.done / progress.total;
  return Number.isFinite(share) ? Math.min(Math.max(share, 0), 1) : null;
}

/** Estimate the seconds that a running job still takes, from its progress so far. */
export function secondsLeft(job: Job, now = new Date()): number | null {
  const done = fraction(job.progress);
  const spent = took(job, now);
  const isHeld = !!job.stale || keepsKernel(job);
  if (!done || spent === null || statusOf(job) !== 'running' || isHeld) {
    return null;
  }
  return (spent * (1 - done)) / done;
}

/** Return progress as `42 % · 21/50 · message`; of a notebook as `25 % · in cell 4 of 12 · heading`. */
export function progressWords(
  progress: Progress | null | undefined,
  cell?: Cell | null
): string {
  if (!progress) {
    return '';
  }
  const { done, total, message } = progress;
  const share = fraction(progress);
  const parts: string[] = [];
  if (share !== null) {
    parts.push(`${round(share * 100)} %`);
  }
  if (cell?.status === 'running' && total) {
    parts.push(`in cell ${number(done + 1)} of ${number(total)}`);
  } else if (total !== 1 && (done || total || !message)) {
    // a share of one says no more than the percentage; before anything is done, the message says it all
    parts.push(number(done) + (total ? `/${number(total)}` : ''));
  }
  if (message) {
    parts.push(clean(message));
  }
  return parts.join(' · ');
}

/** Characters of an environment's key that people see. */
const KEY = 8;

/**
 * Return what there is to say about the environment that a Python has its packages from: `environment 1a2b3c4d · 12
 * packages · from the cache`; nothing for an interpreter as it is.
 *
 * @param packages how many it has; null where that is unknown.
 * @param since when it was asked for: one that was built before comes from the cache.
 * @param absent what is said of one that is not there.
 */
export function environmentWords(
  { key, built, seconds }: Interpreter,
  packages: number | null,
  since: Date | null,
  absent: string,
  now = new Date()
): string {
  if (!key) {
    return '';
  }
  const when = moment(built);
  const span = duration(seconds);
  return [
    `environment ${clean(key).slice(0, KEY)}`,
    packages !== null && `${packages} package${packages === 1 ? '' : 's'}`,
    !when
      ? absent
      : since && when < since
        ? 'from the cache'
        : `built ${age(when, now)}${span && ` in ${span}`}`
  ]
    .filter(Boolean)
    .join(' · ');
}

/** Say of a job's environment that is not there why it is not. */
export function absentWords(job: Pick<Job, 'status' | 'end_time'>): string {
  const status = statusOf(job);
  return status === 'pending'
    ? 'built when the job starts'
    : status === 'running'
      ? 'being built'
      : 'not kept';
}

/** Return the one thing to know beside a job's status: why it ended, what it waits for, or its progress. */
export function note(job: Job): string {
  if (!IN_PROGRESS.includes(statusOf(job))) {
    return why(job);
  }
  const words = progressWords(job.progress, job.cell);
  if (job.stale) {
    return words ? `as last seen: ${words}` : 'as last seen';
  }
  return job.reason ? clean(job.reason) : words;
}

/** Return a job's reason, or its exit code where it has none; of one that was stopped, what stopped it before it began. */
export function why(job: Job): string {
  const status = statusOf(job);
  if (status === 'succeeded') {
    return '';
  }
  if (status === 'stopped') {
    return job.reason && job.reason !== status && !job.start_time
      ? clean(job.reason)
      : '';
  }
  if (job.reason) {
    return clean(job.reason.replace(/^out of memory: /, '')); // the status stands beside it
  }
  const code = job.exit_code ?? 0;
  if (code < 0) {
    return `signal ${-code}`;
  }
  return code ? `exit code ${code}` : '';
}

/** Return for which jobs one waits, or had to wait: `68…1a2b (as input), 68…3c4d`. */
export function afterWords(job: Job): string {
  const inputs = Object.entries(job.inputs ?? {});
  const words = (job.after ?? []).map(id => {
    const keys = inputs.filter(([, one]) => one === id).map(([key]) => key);
    return keys.length ? `${id} (as ${keys.join(', ')})` : id;
  });
  const how = words.length && job.after_any ? ', however they end' : '';
  return clean(words.join(', ') + how);
}

/** Round as Python does, halves to the even side: both views show the same percentage. */
function round(value: number): number {
  const below = Math.floor(value);
  return value - below === 0.5 && below % 2 === 0 ? below : Math.round(value);
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function escape(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  const hex = code.toString(16);
  return code < 0x100
    ? `\\x${hex.padStart(2, '0')}`
    : code < 0x10000
      ? `\\u${hex.padStart(4, '0')}`
      : `\\U${hex.padStart(8, '0')}`;
}
