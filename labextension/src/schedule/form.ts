/** What is typed into the form of a schedule, and what is asked of the server. No DOM. */
import type { TranslationBundle } from '@jupyterlab/translation';

import type { Schedule, ScheduleRequest } from '../api/contract';
import type { Wrong } from '../ui/fields';
import { typed } from './words';

/** How it says when a schedule fires. */
export const KINDS = ['every', 'at', 'cron'] as const;
export type Kind = (typeof KINDS)[number];

/** Units of `every`: seconds, minutes, hours, days. */
export const UNITS = ['s', 'm', 'h', 'd'] as const;

/** What becomes of a firing while the last job is in progress, the default first. */
export const OVERLAPS = ['skip', 'queue', 'stop', 'allow'] as const;

/** What becomes of firings that were missed, the default first. */
export const CATCH_UPS = ['last', 'none'] as const;

/** Schedules in cron's words that are offered; others can be typed. */
export const EXAMPLES = [
  '0 6 * * MON-FRI',
  '0 * * * *',
  '30 2 1 * *',
  '@daily',
  '@weekly'
];

/** What is typed into the form. */
export interface IScheduleForm {
  /** Empty: the API's. */
  name: string;
  kind: Kind;
  /** Of `every`: how many of the unit. */
  every: string;
  unit: string;
  /** As a field of the browser has it: `2026-12-24T18:00`. */
  at: string;
  cron: string;
  /** Empty: the server's. */
  timezone: string;
  overlap: string;
  catchUp: string;
  /** A date, or what the server says. */
  until: string;
  timeout: string;
  retries: string;
}

/** The fields of the form that are about jobs, as `timeout` is: a notebook's dialog has them itself. */
export type Field = keyof IScheduleForm | 'when' | 'config' | 'api';

/** Return the form for a new schedule, or with what one says. */
export function scheduleFormFor(schedule?: Schedule): IScheduleForm {
  const form: IScheduleForm = {
    name: '',
    kind: 'cron',
    every: '15',
    unit: 'm',
    at: '',
    cron: '0 6 * * *',
    timezone: '',
    overlap: OVERLAPS[0],
    catchUp: CATCH_UPS[0],
    until: '',
    timeout: '',
    retries: ''
  };
  if (!schedule) {
    return form;
  }
  const text = schedule.schedule.trim();
  const [, every, unit] = /^every (\d+) ?([smhd])$/.exec(text) ?? [];
  const [, at] =
    /^at (\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)$/.exec(text) ?? [];
  const when: Partial<IScheduleForm> = every
    ? { kind: 'every', every, unit }
    : at
      ? { kind: 'at', at: at.replace(' ', 'T') }
      : { cron: text }; // whatever it is: this field takes all that the server does
  const or = (value: number | null) => (value === null ? '' : String(value));
  return {
    ...form,
    ...when,
    name: schedule.name,
    timezone: schedule.timezone,
    overlap: schedule.overlap,
    catchUp: schedule.catch_up,
    until: typed(schedule.until, schedule.timezone),
    timeout: or(schedule.timeout),
    retries: or(schedule.retries)
  };
}

/** Return when it fires, in the server's words; empty while nothing is typed. */
export function scheduleText(form: IScheduleForm): string {
  switch (form.kind) {
    case 'every': {
      const count = form.every.trim();
      return count && `every ${count}${form.unit}`;
    }
    case 'at':
      return form.at && `at ${form.at}`;
    default:
      return form.cron.trim();
  }
}

/** Check what is typed; the server checks the rest. */
export function wrongInSchedule(
  form: IScheduleForm,
  trans: TranslationBundle
): Wrong {
  const wrong: Wrong = {};
  if (!scheduleText(form)) {
    wrong.when = {
      every: trans.__('Write a number, such as 15.'),
      at: trans.__('Choose a date and a time.'),
      cron: trans.__('Write five fields, such as 0 6 * * MON-FRI.')
    }[form.kind];
  }
  if (form.timeout.trim() && !isWhole(form.timeout, 1, 1e9)) {
    wrong.timeout = trans.__(
      'The timeout must be a whole number of seconds, at least 1.'
    );
  }
  if (form.retries.trim() && !isWhole(form.retries, 0, 100)) {
    wrong.retries = trans.__(
      'The number of retries must be a whole number, at least 0.'
    );
  }
  return wrong;
}

function isWhole(text: string, least: number, most: number): boolean {
  const value = Number(text);
  return Number.isInteger(value) && value >= least && value <= most;
}

/** Return what makes a schedule; what is not typed is left to the server. */
export function scheduleRequestOf(
  form: IScheduleForm
): Partial<ScheduleRequest> {
  const given = { ...changesOf(form, scheduleFormFor()) };
  return {
    ...given,
    schedule: scheduleText(form),
    ...(form.name.trim() ? { name: form.name.trim() } : {})
  };
}

/** Return what changes a schedule: the keys alone whose fields are not as they were. */
export function changesOf(
  form: IScheduleForm,
  before: IScheduleForm
): Partial<ScheduleRequest> {
  const is = (key: keyof IScheduleForm) =>
    form[key].trim() !== before[key].trim();
  const count = (text: string) => (text.trim() ? Number(text) : null);
  const text = scheduleText(form);
  return {
    ...(text !== scheduleText(before) ? { schedule: text } : {}),
    ...(is('timezone') ? { timezone: form.timezone || null } : {}),
    ...(is('overlap')
      ? { overlap: form.overlap as ScheduleRequest['overlap'] }
      : {}),
    ...(is('catchUp')
      ? { catch_up: form.catchUp as ScheduleRequest['catch_up'] }
      : {}),
    ...(is('until') ? { until: form.until.trim() || null } : {}),
    ...(is('timeout') ? { timeout: count(form.timeout) } : {}),
    ...(is('retries') ? { retries: count(form.retries) } : {})
  };
}

/** Return the keys of a config that a schedule is to have: not those that are defaults, unless it had them before. */
export function overridesOf(
  config: { [key: string]: unknown },
  defaults: { [key: string]: unknown },
  before: { [key: string]: unknown } = {}
): { [key: string]: unknown } {
  const isDefault = (key: string) =>
    Object.hasOwn(defaults, key) &&
    JSON.stringify(defaults[key]) === JSON.stringify(config[key]);
  return Object.fromEntries(
    Object.entries(config).filter(
      ([key]) => Object.hasOwn(before, key) || !isDefault(key)
    )
  );
}

/** Return the field that a sentence of the server is about; empty where it is about none of them. */
export function scheduleFieldIn(message: string): Field | '' {
  const fields: [RegExp, Field][] = [
    [
      /^there is a schedule |name of a schedule|a schedule can't be called/,
      'name'
    ],
    [/time ?zone|\bzone\b/i, 'timezone'],
    [/\buntil\b/i, 'until'],
    [/\bretries\b/i, 'retries'],
    [/^timeout\b/i, 'timeout'],
    [
      /^bad |\bfields?\b|\bcron\b|\bevery\b|^at\b|never fires|in the past/i,
      'when'
    ]
  ];
  return fields.find(([words]) => words.test(message))?.[1] ?? '';
}
