import type { Group, Job } from '../api/contract';
import { goingOf, statusOf, tallyOf } from '../api/contract';
import type { Jobs } from '../model/jobs';
import { moment } from '../ui/format';
import type { ViewState } from './state';

/** What a row of the list shows: a job, a group, or that jobs of an open group are yet to be read. */
export type Entry =
  | { kind: 'job'; id: string; job: Job }
  | { kind: 'group'; id: string; group: Group; open: boolean }
  | { kind: 'more'; id: string; group: Group };

/** Return the rows to show, in order: jobs and groups, and below each open group its jobs, as far as they were read. */
export function entriesOf(jobs: Jobs, state: ViewState): readonly Entry[] {
  const { filter, status } = state;
  const standing = new Map<Job, Group>();
  for (const group of jobs.groups) {
    if (!status || countOf(group, status)) {
      standing.set(asJob(group, status), group);
    }
  }
  const found = jobs.found(filter)?.ids;
  const entries: Entry[] = [];
  for (const job of state.pick(merge(jobs.all, [...standing.keys()]), found)) {
    const group = standing.get(job);
    if (!group) {
      entries.push({ kind: 'job', id: job.job_id, job });
      continue;
    }
    const { id } = group;
    const open = state.openGroups.includes(id);
    entries.push({ kind: 'group', id, group, open });
    if (open) {
      for (const member of membersOf(jobs, group, state)) {
        entries.push({ kind: 'job', id: member.job_id, job: member });
      }
      if (jobs.hasOlder({ ...filter, group: id }) !== false) {
        entries.push({ kind: 'more', id: `${id}+`, group });
      }
    }
  }
  return entries;
}

/** Return the jobs of a group that were read and pass the filter, in order. */
function membersOf(jobs: Jobs, group: Group, state: ViewState): readonly Job[] {
  const filter = { ...state.filter, group: group.id };
  const read = jobs.readUpTo(filter);
  const before = jobs
    .jobsOf(group.id)
    .filter(({ index }) => (index ?? 0) <= read);
  return state.narrowed ? state.pass(before, jobs.found(filter)?.ids) : before;
}

/** Return how many jobs of a group are in a state. */
function countOf(group: Group, status: string): number {
  return Object.entries(group.counts).reduce(
    (sum, [word, count]) =>
      statusOf({ status: word }) === status ? sum + count : sum,
    0
  );
}

/** Merge two lists of jobs, newest first. */
function merge(jobs: readonly Job[], others: readonly Job[]): Job[] {
  const merged: Job[] = [];
  let next = 0;
  for (const job of jobs) {
    while (next < others.length && others[next].job_id < job.job_id) {
      merged.push(others[next++]);
    }
    merged.push(job);
  }
  return merged.concat(others.slice(next));
}

const stands = new WeakMap<Group, Job>();

/** Return a job that stands for a group where rows are searched and sorted. */
function asJob(group: Group, status: string): Job {
  let job = stands.get(group);
  if (job === undefined || (status && job.status !== status)) {
    job = {
      job_id: group.id.slice(1), // where it stands in time
      api_name: group.api_name,
      notebook: group.notebook,
      status: status || overall(group),
      created_time: group.created_time,
      start_time: group.created_time,
      end_time: group.end_time,
      config: { [group.name ?? '']: group.id }
    } as unknown as Job;
    stands.set(group, job);
  }
  return job;
}

/** Return the state that a group is sorted by. */
function overall(group: Group): string {
  const { running, failed, stopped } = tallyOf(group);
  return running
    ? 'running'
    : goingOf(group)
      ? 'pending'
      : failed
        ? 'worker_error'
        : stopped
          ? 'stopped'
          : 'succeeded';
}

/** Estimate the seconds that a group still takes, from its progress so far; null where nothing can be said. */
export function groupSecondsLeft(group: Group, now: Date): number | null {
  const { created_time: created, progress } = group;
  const begun = moment(created);
  if (!begun || progress <= 0 || progress >= 1) {
    return null;
  }
  const spent = Math.max((now.getTime() - begun.getTime()) / 1000, 0);
  return (spent * (1 - progress)) / progress;
}
