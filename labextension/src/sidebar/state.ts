import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { ISignal, Signal } from '@lumino/signaling';

import type { Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import type { Filter } from '../model/jobs';
import { Search } from '../model/search';
import { created, took } from '../ui/format';

/** How jobs can be sorted. */
export const SORTS = [
  'progress',
  'newest',
  'oldest',
  'api',
  'status',
  'longest'
] as const;
export type Sort = (typeof SORTS)[number];

/** What a form begins with, where it is a job's: its config and timeout. */
export interface IDraft {
  api: string;
  config: { [key: string]: unknown };
  timeout: number | null;
}
/** Groups that are open at most; the one that was opened first is closed. */
const OPEN = 20;

/** Characters of a search that the server takes. */
const LONGEST = 500;

/** The sidebar's filters and what is open in it; kept over a reload. */
export class ViewState {
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  search = '';
  api = '';
  status = '';
  /** The name of a schedule whose jobs are shown; not kept. */
  schedule = '';
  sort: Sort = 'progress';
  /** The API whose details and form are open. */
  openAPI: string | null = null;
  /** What its form begins with, if not with defaults; not kept. */
  draft: IDraft | null = null;
  /** The ids of the groups whose jobs are shown. */
  openGroups: readonly string[] = [];
  /** The sections that the user closed; null before that is known. */
  closed: readonly string[] | null = null;

  /** Whether some jobs are not shown. */
  get narrowed(): boolean {
    return !!(this.search || this.api || this.status || this.schedule);
  }

  set(
    choice: Partial<
      Pick<
        ViewState,
        | 'search'
        | 'api'
        | 'status'
        | 'schedule'
        | 'sort'
        | 'openAPI'
        | 'openGroups'
        | 'closed'
        | 'draft'
      >
    >
  ): void {
    Object.assign(this, choice);
    (this.changed as Signal<this, void>).emit();
  }

  toJSON(): ReadonlyPartialJSONObject {
    const { search, api, status, sort, openAPI, openGroups, closed } = this;
    // An older version kept its own default as if it were chosen, under `sort`.
    return { search, api, status, order: sort, openAPI, openGroups, closed };
  }

  /** Restore what was kept; invalid values are ignored. */
  restore(kept: unknown): void {
    if (typeof kept !== 'object' || kept === null) {
      return;
    }
    const { search, api, status, order, openAPI, ...others } = kept as {
      [key: string]: unknown;
    };
    const list = (value: unknown) =>
      Array.isArray(value)
        ? value.filter((one): one is string => typeof one === 'string')
        : null;
    const text = (value: unknown) => (typeof value === 'string' ? value : '');
    this.set({
      search: text(search),
      api: text(api),
      status: text(status),
      sort: SORTS.find(one => one === order) ?? 'progress',
      openAPI: text(openAPI) || null,
      openGroups: list(others.openGroups) ?? [],
      closed: list(others.closed)
    });
  }

  /** Show the jobs of a group, or hide them. */
  toggle(group: string, open = !this.openGroups.includes(group)): void {
    const others = this.openGroups.filter(id => id !== group);
    this.set({ openGroups: open ? [...others, group].slice(-OPEN) : others });
  }

  /** What the server is asked for: it searches jobs that were not read, and whole configs. */
  get filter(): Filter {
    return {
      api: this.api || undefined,
      status: this.status ? [this.status] : undefined,
      schedule: this.schedule || undefined,
      search: this.search.trim().slice(0, LONGEST) || undefined
    };
  }

  /** Return the jobs to show, in order; `found` are ids that the server found by the search. */
  pick(jobs: readonly Job[], found?: ReadonlySet<string>): readonly Job[] {
    const picked = this.pass(jobs, found);
    const order = ORDERS[this.sort];
    return order ? picked.sort(order) : picked;
  }

  /** Return the jobs that pass the filter, in the order in which they come. */
  pass(jobs: readonly Job[], found?: ReadonlySet<string>): Job[] {
    const search = new Search(this.search);
    return jobs.filter(
      job =>
        (!this.api || job.api_name === this.api) &&
        (!this.status || statusOf(job) === this.status) &&
        (!this.schedule || job.schedule === this.schedule) &&
        (found?.has(job.job_id) || search.fits(job))
    );
  }
}

type Order = (a: Job, b: Job) => number;

const seconds = (job: Job) => created(job)?.getTime() ?? 0;

/** What runs, then what waits, then what has ended. */
function phase(job: Job): number {
  return hasEnded(job) ? 2 : statusOf(job) === 'pending' ? 1 : 0;
}

/** Newest first is the order in which jobs come, and stays within others. */
const ORDERS: { [sort in Sort]: Order | null } = {
  progress: (a, b) => phase(a) - phase(b),
  newest: null,
  oldest: (a, b) => seconds(a) - seconds(b) || (a.job_id < b.job_id ? 1 : -1),
  api: (a, b) => a.api_name.localeCompare(b.api_name),
  status: (a, b) => statusOf(a).localeCompare(statusOf(b)),
  longest: (a, b) => (took(b) ?? -1) - (took(a) ?? -1)
};
