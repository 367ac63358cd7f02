import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { ISignal, Signal } from '@lumino/signaling';

import type { Job } from '../api/contract';
import { statusOf } from '../api/contract';
import type { Filter } from '../model/jobs';
import { created, took } from '../ui/format';

/** How jobs can be sorted. */
export const SORTS = ['newest', 'oldest', 'api', 'status', 'longest'] as const;
export type Sort = (typeof SORTS)[number];

/** Characters of a search that the server takes. */
const LONGEST = 500;

/** The sidebar's filters and what is open in it; kept over a reload. */
export class ViewState {
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  search = '';
  api = '';
  status = '';
  sort: Sort = 'newest';
  /** The API whose details and form are open. */
  openAPI: string | null = null;

  /** Whether some jobs are not shown. */
  get narrowed(): boolean {
    return !!(this.search || this.api || this.status);
  }

  set(
    choice: Partial<
      Pick<ViewState, 'search' | 'api' | 'status' | 'sort' | 'openAPI'>
    >
  ): void {
    Object.assign(this, choice);
    (this.changed as Signal<this, void>).emit();
  }

  toJSON(): ReadonlyPartialJSONObject {
    const { search, api, status, sort, openAPI } = this;
    return { search, api, status, sort, openAPI };
  }

  /** Restore what was kept; invalid values are ignored. */
  restore(kept: unknown): void {
    if (typeof kept !== 'object' || kept === null) {
      return;
    }
    const { search, api, status, sort, openAPI } = kept as {
      [key: string]: unknown;
    };
    const text = (value: unknown) => (typeof value === 'string' ? value : '');
    this.set({
      search: text(search),
      api: text(api),
      status: text(status),
      sort: SORTS.find(one => one === sort) ?? 'newest',
      openAPI: text(openAPI) || null
    });
  }

  /** What the server is asked for: it searches jobs that were not read, and whole configs. */
  get filter(): Filter {
    return {
      api: this.api || undefined,
      status: this.status ? [this.status] : undefined,
      search: this.search.trim().slice(0, LONGEST) || undefined
    };
  }

  /** Return the jobs to show, in order; `found` are ids that the server found by the search. */
  pick(jobs: readonly Job[], found?: ReadonlySet<string>): readonly Job[] {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const picked = jobs.filter(
      job =>
        (!this.api || job.api_name === this.api) &&
        (!this.status || statusOf(job) === this.status) &&
        (found?.has(job.job_id) ||
          words.every(word => textOf(job).includes(word)))
    );
    const order = ORDERS[this.sort];
    return order ? picked.sort(order) : picked;
  }
}

type Order = (a: Job, b: Job) => number;

const seconds = (job: Job) => created(job)?.getTime() ?? 0;

/** Newest first is the order in which jobs come. */
const ORDERS: { [sort in Sort]: Order | null } = {
  newest: null,
  oldest: (a, b) => seconds(a) - seconds(b) || (a.job_id < b.job_id ? 1 : -1),
  api: (a, b) => a.api_name.localeCompare(b.api_name),
  status: (a, b) => statusOf(a).localeCompare(statusOf(b)),
  longest: (a, b) => (took(b) ?? -1) - (took(a) ?? -1)
};

const texts = new WeakMap<Job, string>();

/** Return the text that a search looks through, cached: a job that changes is another object. */
function textOf(job: Job): string {
  let text = texts.get(job);
  if (text === undefined) {
    const config = JSON.stringify(job.config ?? {}).slice(0, 10_000);
    text = [
      job.job_id,
      job.api_name,
      statusOf(job).replace(/_/g, ' '),
      job.notebook,
      job.reason,
      job.progress?.message,
      config
    ]
      .join('\n')
      .toLowerCase();
    texts.set(job, text);
  }
  return text;
}
