import type { TranslationBundle } from '@jupyterlab/translation';

import type { Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import { statusLabel } from '../ui/components';
import {
  age,
  clean,
  duration,
  fraction,
  moment,
  note,
  number,
  shortId,
  size,
  took
} from '../ui/format';
import type { IKey } from './keys';
import { flatOf, textOf } from './keys';
import type { JobSource } from './source';

/** Columns of each kind that are shown where nothing else was chosen. */
const SHOWN = { config: 6, metric: 4, result: 4 } as const;

/** Columns of each kind that can be chosen. */
const CHOICE = 60;

/** Characters that a header, and a cell, may make a column wide by. */
const WIDEST = 28;

/** What a cell is sorted by and copied as. */
export type Value = string | number | boolean | null;

/** A column of the table. */
export interface IColumn {
  id: string;
  label: string;
  /** Under which heading it is chosen. */
  section: string;
  /** Pixels. */
  width: number;
  isNumber: boolean;
  /** Whether it is shown where nothing else was chosen. */
  isShown: boolean;
  value: (job: Job) => Value;
  /** The cell's text; default: the value. */
  text?: (job: Job, now: Date) => string;
}

/** Return what a pending job waits for in few words: `3rd in line`; else how far it is. */
export function aside(job: Job): string {
  const status = statusOf(job);
  if (status === 'pending') {
    return /\d+\w* in line/.exec(job.reason ?? '')?.[0] ?? '';
  }
  const done = status === 'running' ? fraction(job.progress) : null;
  return done === null ? '' : `${Math.floor(done * 100)} %`;
}

/** Return all columns that jobs can have, in order. */
export function columnsOf(
  source: JobSource,
  api: string,
  trans: TranslationBundle
): IColumn[] {
  const inGroup = source.scope.group !== undefined;
  const jobs = [...source.jobs];
  const apis = new Set<string>();
  let grouped = false;
  let notebooks = false;
  let scheduled = false;
  let noted = false;
  let measured = false;
  for (const job of jobs) {
    apis.add(job.api_name);
    grouped ||= !!job.group;
    notebooks ||= !!job.notebook;
    scheduled ||= !!job.schedule;
    noted ||= !!job.reason;
    measured ||= !!job.usage?.memory_peak;
  }
  const job = trans.__('Job');
  const time = (
    id: string,
    label: string,
    wire: (job: Job) => string | null | undefined
  ) => ({
    id,
    label,
    section: trans.__('Time and memory'),
    width: 110,
    isNumber: false,
    isShown: id === 'submitted',
    value: (job: Job) => wire(job) ?? null,
    text: (job: Job, now: Date) => age(moment(wire(job)), now)
  });
  const found: IColumn[] = [
    {
      id: 'status',
      label: trans.__('Status'),
      section: job,
      width: 164,
      isNumber: false,
      isShown: true,
      value: job => statusOf(job),
      text: job => statusLabel(statusOf(job), trans)
    },
    {
      id: 'index',
      label: trans.__('Index'),
      section: job,
      width: 66,
      isNumber: true,
      isShown: inGroup,
      value: job => job.index ?? null
    },
    {
      id: 'id',
      label: trans.__('ID'),
      section: job,
      width: 58,
      isNumber: false,
      isShown: true,
      value: job => job.job_id,
      text: job => shortId(job.job_id)
    },
    {
      id: 'api',
      label: trans.__('API'),
      section: job,
      width: widthOf('API', Math.max(0, ...[...apis].map(one => one.length))),
      isNumber: false,
      isShown: apis.size > 1 || !inGroup,
      value: job => job.api_name
    },
    {
      id: 'group',
      label: trans.__('Group'),
      section: job,
      width: 96,
      isNumber: false,
      isShown: grouped && !inGroup,
      value: job => (job.group ? source.groupName(job.group) : null)
    },
    {
      id: 'notebook',
      label: trans.__('Notebook'),
      section: job,
      width: 130,
      isNumber: false,
      isShown: notebooks && !inGroup,
      value: job => job.notebook ?? null,
      text: job => job.notebook?.split('/').pop() ?? ''
    },
    {
      id: 'schedule',
      label: trans.__('Schedule'),
      section: job,
      width: 110,
      isNumber: false,
      isShown: scheduled && !inGroup,
      value: job => job.schedule ?? null
    },
    {
      id: 'attempt',
      label: trans.__('Attempt'),
      section: job,
      width: 80,
      isNumber: true,
      isShown: false,
      value: job => job.attempt ?? null
    },
    ...keyed('config', trans.__('Config'), (job, key) => flatOf(job).get(key)),
    ...keyed(
      'metric',
      trans.__('Metrics'),
      (job, key) => (job.metrics as Bag | undefined)?.[key]
    ),
    ...keyed(
      'result',
      trans.__('Results'),
      (job, key) => (job.results as Bag | undefined)?.[key]
    ),
    {
      id: 'duration',
      label: trans.__('Duration'),
      section: trans.__('Time and memory'),
      width: 92,
      isNumber: true,
      isShown: true,
      value: secondsOf,
      text: (job, now) => duration(took(job, now))
    },
    {
      id: 'memory',
      label: trans.__('Peak memory'),
      section: trans.__('Time and memory'),
      width: 130,
      isNumber: true,
      isShown: measured,
      value: job => job.usage?.memory_peak ?? null,
      text: job => size(job.usage?.memory_peak)
    },
    {
      id: 'cpu',
      label: trans.__('CPU time'),
      section: trans.__('Time and memory'),
      width: 92,
      isNumber: true,
      isShown: false,
      value: job => job.usage?.cpu_seconds ?? null,
      text: job => duration(job.usage?.cpu_seconds)
    },
    time(
      'submitted',
      trans.__('Submitted'),
      job => job.created_time ?? job.start_time
    ),
    time('started', trans.__('Started'), job => job.start_time),
    time('ended', trans.__('Ended'), job => job.end_time),
    {
      id: 'note',
      label: trans.__('Note'),
      section: job,
      width: 260,
      isNumber: false,
      isShown: noted,
      value: job => note(job) || null
    }
  ];
  return found;

  function keyed(
    kind: 'config' | 'metric' | 'result',
    section: string,
    of: (job: Job, key: string) => unknown
  ): IColumn[] {
    const keys = [...source.keys.of(kind, api)].slice(0, CHOICE);
    const differing = keys.filter(
      ([, one]) => kind !== 'config' || one.differs
    );
    const shown = new Set(differing.slice(0, SHOWN[kind]).map(([key]) => key));
    return keys.map(([key, known]) => ({
      id: `${kind}.${key}`,
      label: clean(key, 60),
      section,
      width: widthOf(key, lengthOf(kind, known)),
      isNumber: /^-?\d/.test(known.first),
      isShown: shown.has(key),
      value: job => {
        const value = of(job, key);
        return typeof value === 'object' && value !== null
          ? textOf(value)
          : ((value as Value | undefined) ?? null);
      },
      text: job => {
        const value = of(job, key);
        return typeof value === 'number' && kind !== 'config'
          ? number(value)
          : clean(textOf(value));
      }
    }));
  }
}

interface Bag {
  [key: string]: unknown;
}

function lengthOf(kind: string, { first, longest }: IKey): number {
  return kind !== 'config' && /^-?\d/.test(first) ? 9 : longest;
}

function widthOf(label: string, longest: number): number {
  const heading = Math.min(label.length, WIDEST) * 9 + 30; // it is bold
  return Math.max(64, heading, Math.min(longest, WIDEST) * 7 + 22);
}

/** Return jobs in the order of a column; those without a value come last, whichever way. */
export function sorted(
  jobs: readonly Job[],
  column: IColumn,
  descending: boolean
): Job[] {
  const rows = jobs.map(job => {
    const value = column.value(job);
    return {
      job,
      value: typeof value === 'string' ? value.toLowerCase() : value
    };
  });
  const sign = descending ? -1 : 1;
  rows.sort((a, b) => {
    if (a.value === b.value) {
      return a.job.job_id < b.job.job_id ? -1 : 1;
    }
    if (a.value === null || b.value === null) {
      return a.value === null ? 1 : -1;
    }
    if (typeof a.value !== typeof b.value) {
      return typeof a.value === 'number' ? -1 : 1;
    }
    return (a.value < b.value ? -1 : 1) * sign;
  });
  return rows.map(({ job }) => job);
}

const seconds = new WeakMap<Job, number | null>();

/** Return how long a job took, or has taken so far. */
function secondsOf(job: Job): number | null {
  if (!hasEnded(job)) {
    return took(job);
  }
  let known = seconds.get(job);
  if (known === undefined) {
    known = took(job);
    seconds.set(job, known);
  }
  return known;
}

const RANKS: { [status: string]: number } = { running: 0, pending: 1 };

/**
 * Return jobs as they are of interest: what runs, what waits in the order of the line, what ended, newest first; of a
 * group, by their index.
 */
export function inProgressFirst(jobs: readonly Job[], inGroup: boolean): Job[] {
  const ranks = new Map(
    jobs.map(job => [job, RANKS[statusOf(job)] ?? 2] as const)
  );
  return [...jobs].sort((a, b) => {
    const [one, other] = [ranks.get(a)!, ranks.get(b)!];
    if (one !== other) {
      return one - other;
    }
    const newer = a.job_id < b.job_id ? -1 : 1; // ids descend with time
    if (inGroup) {
      return (a.index ?? 0) - (b.index ?? 0) || -newer;
    }
    return one === 1 ? -newer : newer;
  });
}

/** Return rows as CSV with exact values: seconds, bytes, times with their zone. */
export function csvOf(
  jobs: readonly Job[],
  columns: readonly IColumn[]
): string {
  const cell = (value: Value) => {
    const text = value === null ? '' : String(value);
    return /[",\r\n]|^\s|\s$/.test(text)
      ? `"${text.replace(/"/g, '""')}"`
      : text;
  };
  const head = columns.map(({ id }) =>
    cell(id.replace(/^(config|result)\./, ''))
  );
  const taken = new Set<string>();
  const names = head.map((name, index) => {
    const free = taken.has(name) ? cell(columns[index].id) : name;
    taken.add(free);
    return free;
  });
  const lines = jobs.map(job =>
    columns.map(({ value }) => cell(value(job))).join(',')
  );
  return `${[names.join(','), ...lines].join('\r\n')}\r\n`;
}
