import type { Event } from '@jupyterlab/services';
import type { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, IStream, Signal } from '@lumino/signaling';

import type { IJobQuery, TaskAPIClient } from '../api/client';
import type { Group, Job, JobsPage } from '../api/contract';
import { hasEnded, IN_PROGRESS, JOB_EVENTS, LOCAL } from '../api/contract';
import { textOf } from '../model/search';
import { Keys } from './keys';

/** Jobs that are read at most until somebody asks for more. */
const MOST = 10_000;

/** Jobs of the first request, which is to be answered at once, and of others. */
const FIRST = 200;
const PAGE = 1_000;

/** Jobs that the server answers by their ids in one request. */
const AT_ONCE = 200;

/** Milliseconds between two reads because of events, at least; reads take a third of the time at most. */
const BREATH = 150;

/** Milliseconds between two reads of the jobs in view that are in progress: nothing announces what changes there. */
const LIVELY = 1_000;

/** Milliseconds between two looks for what no event announced: on a cluster, and on this machine. */
const OFTEN = 3_000;
const SELDOM = 60_000;

/** Milliseconds from a failure to the next attempt. */
const AFTER_ERROR = 10_000;

/** Changed jobs beyond which all is read again. */
const MANY = 5_000;

/** What a page shows: the jobs of an environment, or those of one of its groups. */
export interface IScope {
  environment: string;
  group?: string;
}

type Filter = Pick<IJobQuery, 'api' | 'status' | 'search'>;

/**
 * The jobs of a page, with scalar results, as this browser knows them.
 *
 * It holds more of them than the sidebar's model, and reads changed ones by their ids, many at once.
 */
export class JobSource implements IDisposable {
  constructor(
    readonly scope: IScope,
    private readonly client: TaskAPIClient,
    private readonly events: IStream<unknown, Event.Emission>
  ) {
    events.connect(this.onEvent, this);
    this.poll = new Poll({
      auto: false,
      factory: () => this.look(),
      frequency: { interval: LIVELY, backoff: false },
      name: 'taskapi-jupyter:page',
      standby: () => document.hidden || !this._active
    });
    void this.poll.start();
  }

  /** Something that is shown may have changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  /** Which keys and values the jobs have. */
  keys = new Keys();

  /** Raised whenever a job changes. */
  version = 0;

  /** Raised when names of groups were read. */
  named = 0;

  /** The jobs in view: these are kept up to date first. */
  inView: readonly string[] = [];

  get jobs(): Iterable<Job> {
    return this._jobs.values();
  }

  get size(): number {
    return this._jobs.size;
  }

  get(id: string): Job | undefined {
    return this._jobs.get(id);
  }

  /** The group of the scope, and its counts. */
  get group(): Group | null {
    return this._group;
  }

  /** The name of a group, or the end of its id. */
  groupName(id: string): string {
    return this._names.get(id) || `g${id.slice(-4)}`;
  }

  /** Whether a first answer has come. */
  get loaded(): boolean {
    return this._loaded;
  }

  /** Whether jobs are being read. */
  get loading(): boolean {
    return this._loading > 0;
  }

  /** Whether the server has older jobs that were not read. */
  get more(): boolean {
    return this._cursor !== null;
  }

  /** Why the last read failed. */
  get error(): Error | null {
    return this._error;
  }

  /** Whether the page is on show: else it reads nothing. */
  set active(active: boolean) {
    if (active !== this._active) {
      this._active = active;
      if (active) {
        void (this._loaded ? this.work() : this.load());
      }
    }
  }

  /** Read all jobs, the newest and those in progress first. */
  async load(): Promise<void> {
    const run = ++this._run;
    const { group } = this.scope;
    const before = new Set(this._jobs.keys());
    const take = ({ jobs }: JobsPage) => {
      this.take(jobs);
      jobs.forEach(job => before.delete(job.job_id));
      this.emit();
    };
    await this.attempt(async () => {
      const named = this.readNames();
      if (group) {
        await this.readGroup();
      }
      let page = await this.read({ limit: FIRST });
      await named;
      if (run !== this._run) {
        return;
      }
      take(page);
      this._loaded = true;
      const status = IN_PROGRESS;
      let cursor = page.next_cursor;
      while (cursor && this.size < MOST && run === this._run) {
        const more = await this.read({ limit: PAGE, status, cursor });
        take(more);
        cursor = more.next_cursor;
      }
      let count = page.jobs.length;
      while (page.next_cursor && count < MOST && run === this._run) {
        page = await this.read({ limit: PAGE, cursor: page.next_cursor });
        take(page);
        count += page.jobs.length;
      }
      if (run === this._run) {
        this._cursor = page.next_cursor;
        const last = page.jobs[page.jobs.length - 1]?.job_id ?? '';
        for (const id of before) {
          if (!this._cursor || (!group && id <= last)) {
            this.drop(id);
          }
        }
      }
    });
  }

  /** Read older jobs. */
  older(): Promise<void> {
    return this.attempt(async () => {
      for (let count = 0; this._cursor && count < MOST; count += PAGE) {
        const page = await this.read({ limit: PAGE, cursor: this._cursor });
        this.take(page.jobs);
        this._cursor = page.next_cursor;
        this.emit();
      }
    });
  }

  /** Have the server look for jobs that were not read, or whose config lists leave out; return what it found. */
  async find(
    filter: Filter,
    goesOn: () => boolean
  ): Promise<ReadonlySet<string>> {
    const found = new Set<string>();
    await this.attempt(async () => {
      let cursor: string | null = null;
      do {
        const page: JobsPage = await this.read({
          ...filter,
          limit: PAGE,
          cursor: cursor ?? undefined
        });
        if (!goesOn()) {
          return;
        }
        this.take(page.jobs);
        page.jobs.forEach(job => found.add(job.job_id));
        cursor = page.next_cursor;
      } while (cursor && found.size < PAGE);
    });
    return found;
  }

  /** Read jobs again soon. */
  touch(ids: Iterable<string>): void {
    for (const id of ids) {
      this._touched.add(id);
    }
    void this.work();
  }

  /** Read the whole configs of jobs whose configs lists leave out. */
  async whole(ids: readonly string[]): Promise<void> {
    const missing = ids.filter(id => this._jobs.get(id)?.config_truncated);
    if (missing.length) {
      await this.attempt(() => this.readThese(missing));
    }
  }

  /** Forget a job that was deleted. */
  drop(id: string): void {
    if (this._jobs.delete(id)) {
      this.version += 1;
      this.emit();
    }
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    if (!this._disposed) {
      this._disposed = true;
      this._run += 1;
      this.events.disconnect(this.onEvent, this);
      this.poll.dispose();
      Signal.clearData(this);
    }
  }

  private onEvent(_: unknown, event: Event.Emission): void {
    const { schema_id, job_id, status } = event as unknown as {
      [key: string]: unknown;
    };
    if (
      schema_id !== JOB_EVENTS ||
      typeof job_id !== 'string' ||
      this.scope.environment !== LOCAL
    ) {
      return;
    }
    if (status === 'deleted') {
      this._touched.delete(job_id);
      this.drop(job_id);
    } else {
      this._touched.add(job_id);
      void this.work();
    }
  }

  private read(query: IJobQuery): Promise<JobsPage> {
    const { environment } = this.scope;
    const group = query.ids ? undefined : this._group?.id;
    return this.client.jobs(environment, { ...query, group, results: true });
  }

  /** Read what was touched, some at a time, those in view first. */
  private async work(): Promise<void> {
    if (this._working || !this._active) {
      return;
    }
    this._working = true;
    while (this._touched.size && this._active && !this._disposed) {
      const began = performance.now();
      if (this._touched.size > MANY) {
        this._touched.clear();
        await this.load();
      } else {
        const first = this.inView.filter(id => this._touched.has(id));
        const ids = [...new Set([...first, ...this._touched])];
        const now = ids.slice(0, AT_ONCE);
        now.forEach(id => this._touched.delete(id));
        await this.attempt(async () => {
          await this.readThese(now);
          const groups = now.map(id => this._jobs.get(id)?.group);
          if (groups.some(id => id && !this._seen.has(id))) {
            await this.readNames();
          }
          groups.forEach(id => id && this._seen.add(id));
          if (this._group) {
            await this.readGroup();
          }
        });
      }
      const pause = Math.max(BREATH, 2 * (performance.now() - began));
      await new Promise(resolve => setTimeout(resolve, pause));
    }
    this._working = false;
  }

  /** Read some jobs, with their whole configs; a page of answers may have fewer. */
  private async readThese(ids: readonly string[]): Promise<void> {
    let left = [...ids].sort();
    while (left.length && !this._disposed) {
      const asked = left.slice(0, AT_ONCE);
      const { jobs } = await this.read({ ids: asked });
      const answered = new Set(jobs.map(job => job.job_id));
      const last = jobs[jobs.length - 1]?.job_id ?? '\uffff';
      this.take(jobs);
      // Those behind the last one may have found no room; those before it are gone.
      asked
        .filter(id => !answered.has(id) && id < last)
        .forEach(id => this.drop(id));
      left = left.filter(
        id => !answered.has(id) && (id > last || !asked.includes(id))
      );
    }
  }

  private async readGroup(): Promise<void> {
    const { environment, group } = this.scope;
    const wanted = this._group?.id ?? group;
    if (wanted) {
      const ref = { environment, group: wanted };
      this._group = (await this.client.group(ref, { limit: 1 })).group;
      this._names.set(this._group.id, this._group.name ?? '');
    }
  }

  /** Read the names of the newest groups. */
  private async readNames(): Promise<void> {
    if (this.scope.group) {
      return;
    }
    try {
      const { groups } = await this.client.groups(this.scope.environment);
      for (const { id, name } of groups) {
        this._seen.add(id);
        if (name) {
          this._names.set(id, name);
        }
      }
      this.named += 1;
      this.version += 1;
    } catch {
      // a cluster has no groups
    }
  }

  /** Read what no event announces. */
  private async look(): Promise<void> {
    if (this._error && !this._loading) {
      if (performance.now() - this._looked > AFTER_ERROR) {
        this._looked = performance.now();
        await this.load();
      }
      return;
    }
    if (!this._loaded) {
      return;
    }
    const lively = this.inView.filter(id => {
      const job = this._jobs.get(id);
      return job && !hasEnded(job);
    });
    if (lively.length) {
      await this.attempt(() => this.readThese(lively.slice(0, AT_ONCE)));
    }
    const pause = this.scope.environment === LOCAL ? SELDOM : OFTEN;
    if (performance.now() - this._looked > pause) {
      this._looked = performance.now();
      if (this.size <= PAGE) {
        await this.load();
      } else {
        const going = [...this.jobs].filter(job => !hasEnded(job));
        await this.attempt(async () => {
          this.take((await this.read({ limit: FIRST })).jobs);
          await this.readThese(going.slice(-AT_ONCE).map(job => job.job_id));
        });
      }
    }
  }

  /** Keep jobs as they were just read; one that did not change stays the same object. */
  private take(jobs: readonly Job[]): void {
    for (const read of jobs) {
      if (this.scope.group && read.group !== this._group?.id) {
        continue;
      }
      const known = this._jobs.get(read.job_id);
      if (known) {
        if (hasEnded(known) && !hasEnded(read)) {
          continue; // an answer that was overtaken
        }
        if (read.config_truncated && !known.config_truncated) {
          read.config = known.config;
          delete read.config_truncated;
        }
        if (JSON.stringify(known) === JSON.stringify(read)) {
          continue;
        }
      }
      if (read.group && this._group && read.retried_by) {
        this._jobs.delete(read.job_id); // its next attempt stands for it
        continue;
      }
      this._jobs.set(read.job_id, read);
      this.keys.add(read, known);
      textOf(read); // now, as a search would do it for all at once
      this.version += 1;
    }
  }

  private async attempt(read: () => Promise<unknown>): Promise<void> {
    this._loading += 1;
    try {
      await read();
      this._error = null;
    } catch (error) {
      this._error = error instanceof Error ? error : new Error(String(error));
    } finally {
      this._loading -= 1;
    }
    this.emit();
  }

  private emit(): void {
    if (!this._disposed) {
      (this.changed as Signal<this, void>).emit();
    }
  }

  private poll: Poll;
  private _jobs = new Map<string, Job>();
  private _names = new Map<string, string>();
  /** Groups for whose names the server was asked. */
  private _seen = new Set<string>();
  private _group: Group | null = null;
  private _cursor: string | null = null;
  private _touched = new Set<string>();
  private _active = false;
  private _loaded = false;
  private _loading = 0;
  private _looked = performance.now();
  private _error: Error | null = null;
  private _run = 0;
  private _working = false;
  private _disposed = false;
}
