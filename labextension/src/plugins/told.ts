/** Which ended jobs and groups are told of, and in which words. */
import type { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { Group, Job } from '../api/contract';
import { statusOf } from '../api/contract';
import { statusLabel } from '../ui/components';
import {
  clean,
  created,
  duration,
  moment,
  shortId,
  took,
  why
} from '../ui/format';

/** Lab cuts messages at 140 characters. */
const LONGEST = 140;

/** The name in a job's `notify` that stands for the browser. */
const BROWSER = 'browser';

/** What is said of a job or a group: a line, and why it failed. */
export interface IWords {
  title: string;
  body: string;
}

/** Whether a job asked to be told of in browsers; an older server knows nothing of it. */
export function asks(job: Pick<Job, 'notify'>): boolean {
  return job.notify?.includes(BROWSER) ?? false;
}

/** Whether nobody is to be told of a job. */
function isOff(job: Pick<Job, 'notify'>): boolean {
  return job.notify?.length === 0;
}

/** Whether a job that ended is told of, where those are that took so many seconds. */
export function isTold(job: Job, after: number): boolean {
  if (job.retried_by || statusOf(job) === 'stopped' || isOff(job)) {
    return false; // it is tried again, or who stopped it knows
  }
  if (job.schedule) {
    return asks(job) || statusOf(job) !== 'succeeded'; // nobody waits for those
  }
  return asks(job) || spanOf(job) >= after;
}

/** Return when a job ended, in milliseconds. */
export function endOf(job: Job): number {
  return moment(job.end_time)?.getTime() ?? 0;
}

/** Return the seconds that a job ran, or waited where it never did. */
export function spanOf(job: Job): number {
  const begun = created(job)?.getTime() ?? 0;
  return took(job) ?? (endOf(job) - begun) / 1000;
}

/** Return a job that stands for a group that has ended. */
export function asJob(group: Group): Job {
  const { id, api_name, created_time, end_time, counts } = group;
  const states = Object.keys(counts).map(status => statusOf({ status }));
  const failed = states.find(one => !['succeeded', 'stopped'].includes(one));
  return {
    job_id: id,
    api_name,
    created_time,
    start_time: created_time,
    end_time,
    status: failed ?? (states.includes('succeeded') ? 'succeeded' : 'stopped')
  } as Job;
}

/** Say in one line how a group ended: `rates: 9 of 12 jobs succeeded after 3 min 05 s, 3 failed`. */
export function groupWords(group: Group, trans: TranslationBundle): IWords {
  const name = clean(group.name || group.api_name, 60);
  const [all, succeeded, stopped] = ['', 'succeeded', 'stopped'].map(wanted =>
    Object.entries(group.counts).reduce(
      (sum, [status, count]) =>
        !wanted || statusOf({ status }) === wanted ? sum + count : sum,
      0
    )
  );
  const failed = all - succeeded - stopped;
  const span = duration(spanOf(asJob(group)));
  const title = [
    succeeded === all
      ? trans.__('%1: %2 jobs succeeded after %3', name, all, span)
      : trans.__(
          '%1: %2 of %3 jobs succeeded after %4',
          name,
          succeeded,
          all,
          span
        ),
    failed && trans.__('%1 failed', failed),
    stopped && trans.__('%1 stopped', stopped)
  ]
    .filter(Boolean)
    .join(', ');
  return { title, body: '' };
}

export function typeOf(job: Job): Notification.TypeOptions {
  switch (statusOf(job)) {
    case 'succeeded':
      return 'success';
    case 'timed_out':
      return 'warning';
    default:
      return 'error';
  }
}

/** Say how a job ended, and why. */
export function wordsOf(job: Job, trans: TranslationBundle): IWords {
  const name = clean(job.api_name, 40);
  const id = shortId(job.job_id);
  const span = duration(took(job));
  const status = statusOf(job);
  if (status === 'succeeded') {
    const title = span
      ? trans.__('%1 · %2 succeeded after %3', name, id, span)
      : trans.__('%1 · %2 succeeded', name, id);
    return { title, body: '' };
  }
  const label = statusLabel(status, trans);
  const title = span
    ? trans.__('%1 · %2: %3 after %4', name, id, label, span)
    : trans.__('%1 · %2: %3', name, id, label);
  return { title, body: why(job) };
}

/** Put what is said into one line of Lab's. */
export function lineOf({ title, body }: IWords): string {
  return clean(body ? `${title}: ${body}` : title, LONGEST);
}
