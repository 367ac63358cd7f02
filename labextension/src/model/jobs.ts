import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import type { IJobQuery, TaskAPIClient } from '../api/client';
import type { API, Job, JobsPage } from '../api/contract';
import { hasEnded, IN_PROGRESS, nameOf, statusOf } from '../api/contract';
import { APIError } from '../api/request';

/** Jobs per request. */
export const PAGE = 250;

/** Up to so many changed jobs are asked for one by one, more by reading the list again. */
const FEW = 4;

/** Milliseconds between two reads because of events, at least; reads take a third of the time at most. */
const BREATH = 150;

/** Jobs that a search looks at before it asks whether to go on: the server takes fewer at a time where it is busy. */
const SEARCHED = 5000;

/** Jobs in progress that are read at most, beside the newest jobs: thousands may wait. */
const MOST = 1000;

/** What the server filters a list by. */
export type Filter = Pick<IJobQuery, 'api' | 'status' | 'search'>;

/** How many jobs are in each state. */
type Counts = { [status: string]: number };

/** What the server found, and among how many jobs. */
export interface IFound {
  ids: ReadonlySet<string>;
  searched: number;
}

/** A job that changed; `before` is its status when it was last seen, undefined for a new one. */
export interface IJobChange {
  job: Job;
  before: string | undefined;
}

/**
 * The APIs and jobs of one environment, as this browser knows them.
 *
 * It reads when it is called: `refresh` for everything, `refreshJob` for what an
 * event named, `refreshRunning` for what runs.
 */
export class Jobs implements IDisposable {
  constructor(
    readonly environment: string,
    private readonly client: TaskAPIClient
  ) {}

  /** Something that is shown may have changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  /** A job is new or has another status than when it was last seen. */
  readonly moved: ISignal<this, IJobChange> = new Signal<this, IJobChange>(
    this
  );

  /** The APIs by name. */
  get apis(): readonly API[] {
    return this._apis;
  }

  /** All jobs that are known, newest first. */
  get all(): readonly Job[] {
    return (this._sorted ??= [...this._jobs.values()].sort((a, b) =>
      a.job_id < b.job_id ? -1 : 1
    )); // ids descend with time
  }

  /** The jobs that are pending or running. */
  get inProgress(): readonly Job[] {
    return (this._inProgress ??= this.all.filter(job => !hasEnded(job)));
  }

  /** Why the last read failed; null if it did not. */
  get error(): Error | null {
    return this._error;
  }

  /** Whether a read has ever succeeded. */
  get loaded(): boolean {
    return this._loaded;
  }

  get(id: string): Job | undefined {
    return this._jobs.get(id);
  }

  /** Whether the server has older jobs that pass a filter; undefined before it was asked. */
  hasOlder(filter: Filter = {}): boolean | undefined {
    const cursor = this._cursors.get(keyOf(filter));
    return cursor === undefined ? undefined : cursor !== null;
  }

  /** How many jobs of this environment are in a state. */
  count(status: string): number {
    const known = this.inProgress.filter(job => statusOf(job) === status);
    const counted = this._counts.get(keyOf({}))?.[status] ?? 0;
    return this.partial ? Math.max(known.length, counted) : known.length;
  }

  /** Whether more jobs are in progress than are known. */
  get partial(): boolean {
    return this._partial;
  }

  /** How many jobs pass a filter, whatever it searches for. */
  total({ api, status }: Filter = {}): number {
    const passing = this.all.filter(
      job =>
        (!api || job.api_name === api) &&
        (!status || status.includes(statusOf(job)))
    );
    const counts = this._counts.get(keyOf({ api, status }));
    const older = this.hasOlder({ api, status }) ?? this.hasOlder();
    const counted = Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
    return older ? Math.max(passing.length, counted) : passing.length;
  }

  /** What the server found for a filter with a search; undefined before it was asked. */
  found(filter: Filter): IFound | undefined {
    return this._search?.key === keyOf(filter) ? this._search : undefined;
  }

  /** Read the APIs, the newest jobs and all that are in progress. */
  refresh(): Promise<void> {
    return this.attempt(() =>
      Promise.all([this.readAPIs(), this.readNewest()])
    );
  }

  /** Read the APIs alone. */
  refreshAPIs(): Promise<void> {
    this._apisChanged = true;
    return this.work();
  }

  /** Read again what an event named. */
  refreshJob(id: string): Promise<void> {
    this._touched.add(id);
    return this.work();
  }

  /** Drop a job that was deleted. */
  drop(id: string): void {
    if (this._jobs.delete(id)) {
      this.emit();
    }
  }

  /** Read the jobs that run, for their progress. */
  refreshRunning(): Promise<void> {
    return this.attempt(async () => {
      const known = this.inProgress.filter(job => statusOf(job) === 'running');
      const page = await this.client.jobs(this.environment, {
        status: ['running'],
        limit: 200
      });
      this.take(page.jobs);
      await this.readGone(
        known.map(job => job.job_id),
        page.jobs
      );
    });
  }

  /** Read the next page of the jobs that pass a filter. */
  older(filter: Filter = {}): Promise<void> {
    const key = keyOf(filter);
    const cursor = this._cursors.get(key);
    if (cursor === null || this._asked.has(key)) {
      return Promise.resolve();
    }
    this._asked.add(key);
    return this.attempt(async () => {
      let from: string | null | undefined = cursor;
      let searched = 0;
      let found = 0;
      do {
        const page: JobsPage = await this.client.jobs(this.environment, {
          ...filter,
          limit: PAGE,
          cursor: from,
          counts: true
        });
        from = page.next_cursor;
        this.take(page.jobs);
        this._cursors.set(key, from);
        this.keepCounts({ ...filter, search: undefined }, page.counts);
        if (page.searched === undefined) {
          break; // not searched, or by an older server: a page is a page
        }
        this.keepFound(key, page.jobs, page.searched);
        searched += page.searched;
        found += page.jobs.length;
      } while (from !== null && searched < SEARCHED && found < PAGE);
    }).finally(() => this._asked.delete(key));
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    Signal.clearData(this);
  }

  /** Read what events named, one request after the other. */
  private async work(): Promise<void> {
    if (this._working) {
      return this._working;
    }
    this._working = (async () => {
      while ((this._touched.size || this._apisChanged) && !this._disposed) {
        const began = performance.now();
        const ids = [...this._touched];
        const apis = this._apisChanged;
        this._touched.clear();
        this._apisChanged = false;
        await this.attempt(() =>
          Promise.all([
            ...(apis ? [this.readAPIs()] : []),
            ...(ids.length > FEW
              ? [this.readNewest()]
              : ids.map(id => this.readOne(id)))
          ])
        );
        const pause = Math.max(BREATH, 2 * (performance.now() - began));
        await new Promise(resolve => setTimeout(resolve, pause));
      }
    })().finally(() => {
      this._working = null;
    });
    return this._working;
  }

  private async readAPIs(): Promise<void> {
    const apis = await this.client.apis(this.environment);
    this._apis = apis
      .filter(api => (api.metadata?.kind ?? api.spec?.kind) === 'TaskAPI')
      .sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
  }

  private async readNewest(): Promise<void> {
    const known = this.inProgress.map(job => job.job_id);
    const page = await this.client.jobs(this.environment, {
      limit: PAGE,
      counts: true
    });
    const found = [...page.jobs];
    const last = page.jobs[page.jobs.length - 1];
    const { counts } = page;
    this.keepCounts({}, counts);
    // An older server doesn't count; a cluster has other words for these states.
    let missing =
      counts &&
      Object.keys(counts).every(one => statusOf({ status: one }) === one)
        ? IN_PROGRESS.reduce((sum, one) => sum + (counts[one] ?? 0), 0) -
          page.jobs.filter(job => !hasEnded(job)).length
        : Infinity;
    let left = MOST;
    let cursor = page.next_cursor;
    while (cursor !== null && missing > 0 && left > 0) {
      const more: JobsPage = await this.client.jobs(this.environment, {
        status: IN_PROGRESS,
        limit: left,
        cursor // older ones than those of the page
      });
      found.push(...more.jobs);
      missing -= more.jobs.length;
      left -= more.jobs.length;
      cursor = more.next_cursor;
    }
    this._partial = cursor !== null && missing > 0;
    const ids = new Set(found.map(job => job.job_id));
    for (const id of [...this._jobs.keys()]) {
      // What the page would have held and doesn't was deleted.
      if (!ids.has(id) && (page.next_cursor === null || id <= last.job_id)) {
        this._jobs.delete(id);
      }
    }
    this.take(found);
    if (!this._cursors.has(keyOf({})) || page.next_cursor === null) {
      this._cursors.set(keyOf({}), page.next_cursor);
    }
    await this.readGone(known, found);
  }

  /** Read the jobs that were in progress and are not listed as such any more. */
  private async readGone(
    known: readonly string[],
    listed: readonly Job[]
  ): Promise<void> {
    const ids = new Set(listed.map(job => job.job_id));
    const gone = known.filter(id => !ids.has(id) && this._jobs.has(id));
    if (gone.length > FEW) {
      const page = await this.client.jobs(this.environment, { limit: 1000 });
      this.take(page.jobs);
    }
    const left = gone.filter(id => {
      const job = this._jobs.get(id);
      return job && !hasEnded(job);
    });
    await Promise.all(left.slice(0, FEW).map(id => this.readOne(id)));
  }

  private async readOne(id: string): Promise<void> {
    try {
      const api = this._jobs.get(id)?.api_name ?? '';
      const { environment } = this;
      const { job_status } = await this.client.job({ environment, api, id });
      this.take([job_status]);
    } catch (error) {
      if (!(error instanceof APIError && error.status === 404)) {
        throw error;
      }
      this._jobs.delete(id);
      this.forgetSorted();
    }
  }

  /** Keep jobs as they were just read; one that did not change stays the same object. */
  private take(jobs: readonly Job[]): void {
    for (const read of jobs) {
      const known = this._jobs.get(read.job_id);
      const job = known ? withConfig(read, known) : read;
      const fuller = known?.config_truncated && !job.config_truncated;
      if (
        known &&
        ((hasEnded(known) && !(fuller && hasEnded(job))) ||
          JSON.stringify(known) === JSON.stringify(job))
      ) {
        continue; // an ended job never changes; an answer that was overtaken must not revive it
      }
      this._jobs.set(job.job_id, job);
      this.forgetSorted();
      const before = known && statusOf(known);
      if (before !== statusOf(job)) {
        (this.moved as Signal<this, IJobChange>).emit({ job, before });
      }
    }
  }

  private keepCounts(filter: Filter, counts: Counts | undefined): void {
    if (counts) {
      this._counts.set(keyOf(filter), counts);
    }
  }

  /** Keep what a search found; what another one found is forgotten. */
  private keepFound(key: string, jobs: readonly Job[], searched: number): void {
    if (this._search && this._search.key !== key) {
      this._cursors.delete(this._search.key);
      this._search = null;
    }
    this._search ??= { key, ids: new Set(), searched: 0 };
    jobs.forEach(job => this._search?.ids.add(job.job_id));
    this._search.searched += searched;
  }

  private async attempt(read: () => Promise<unknown>): Promise<void> {
    try {
      await read();
      this._error = null;
      this._loaded = true;
    } catch (error) {
      this._error = error instanceof Error ? error : new Error(String(error));
    }
    this.emit();
  }

  private emit(): void {
    this.forgetSorted();
    if (!this._disposed) {
      (this.changed as Signal<this, void>).emit();
    }
  }

  private forgetSorted(): void {
    this._sorted = this._inProgress = null;
  }

  private _apis: readonly API[] = [];
  private _jobs = new Map<string, Job>();
  private _sorted: readonly Job[] | null = null;
  private _inProgress: readonly Job[] | null = null;
  private _cursors = new Map<string, string | null>();
  private _counts = new Map<string, Counts>();
  private _partial = false;
  private _search: {
    key: string;
    ids: Set<string>;
    searched: number;
  } | null = null;
  private _error: Error | null = null;
  private _loaded = false;
  private _touched = new Set<string>();
  private _apisChanged = false;
  /** The filters for which a page is awaited: a view may ask again each time it is drawn. */
  private _asked = new Set<string>();
  private _working: Promise<void> | null = null;
  private _disposed = false;
}

function keyOf({ api, status, search }: Filter): string {
  return JSON.stringify([api ?? '', [...(status ?? [])].sort(), search ?? '']);
}

/** Return a job as it was just read, with the config that a list left out where that is known. */
function withConfig(job: Job, known: Job): Job {
  if (!job.config_truncated || known.config_truncated) {
    return job;
  }
  const whole = { ...job, config: known.config };
  delete whole.config_truncated;
  return whole;
}
