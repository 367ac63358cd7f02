import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import type { IJobQuery, TaskAPIClient } from '../api/client';
import type { API, Group, GroupResponse, Job, JobsPage } from '../api/contract';
import {
  definitionOf,
  goingOf,
  hasEnded,
  IN_PROGRESS,
  nameOf,
  statusOf
} from '../api/contract';
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

/** Jobs of a group that are read again at once, at most. */
const RANGE = 1000;

/** Deleted jobs that are remembered: answers that were on their way may still have them. */
const DROPPED = 1000;

/** What the server filters a list by: that of all jobs and groups, or the jobs of a group. */
export type Filter = Pick<
  IJobQuery,
  'api' | 'status' | 'search' | 'schedule'
> & {
  group?: string;
};

/** How many jobs are in each state. */
type Counts = { [status: string]: number };

/** What the server found, and among how many jobs. */
export interface IFound {
  /** Of jobs; for a group stands the id of its first job. */
  ids: ReadonlySet<string>;
  searched: number;
}

/** A job that changed; `before` is its status when it was last seen, undefined for a new one. */
export interface IJobChange {
  job: Job;
  before: string | undefined;
}

/** A group that is new, or of which jobs changed their status; `before` is as it was last seen. */
export interface IGroupChange {
  group: Group;
  before: Group | undefined;
}

/**
 * The APIs, jobs and groups of one environment, as this browser knows them.
 *
 * A group is one thing here, however many jobs it has: of these, only those are read that a view asks for.
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

  /** A job is new or has another status than when it was last seen; jobs of groups are not told of. */
  readonly moved: ISignal<this, IJobChange> = new Signal<this, IJobChange>(
    this
  );

  /** A group is new, or other jobs of it are in each status. */
  readonly groupMoved: ISignal<this, IGroupChange> = new Signal<
    this,
    IGroupChange
  >(this);

  /** The APIs by name. */
  get apis(): readonly API[] {
    return this._apis;
  }

  /** All jobs that are known and in no group, newest first. */
  get all(): readonly Job[] {
    return (this._sorted ??= [...this._jobs.values()]
      .filter(job => !job.group)
      .sort((a, b) => (a.job_id < b.job_id ? -1 : 1))); // ids descend with time
  }

  /** The jobs that are pending or running, and in no group. */
  get inProgress(): readonly Job[] {
    return (this._inProgress ??= this.all.filter(job => !hasEnded(job)));
  }

  /** All groups that are known, newest first. */
  get groups(): readonly Group[] {
    return (this._sortedGroups ??= [...this._groups.values()].sort((a, b) =>
      a.id < b.id ? -1 : 1
    ));
  }

  /** The groups of which jobs are pending or running. */
  get groupsInProgress(): readonly Group[] {
    return this.groups.filter(group => goingOf(group) > 0);
  }

  /** Return the jobs of a group that were read, in order, each as its last attempt. */
  jobsOf(group: string): readonly Job[] {
    if (!this._members) {
      this._members = new Map<string, Job[]>();
      for (const job of this._jobs.values()) {
        if (job.group) {
          const jobs = this._members.get(job.group) ?? [];
          const index = job.index ?? 0;
          const other = jobs[index] as Job | undefined;
          if (!other || (other.attempt ?? 1) < (job.attempt ?? 1)) {
            jobs[index] = job;
          }
          this._members.set(job.group, jobs);
        }
      }
      this._members.forEach((jobs, id) =>
        this._members!.set(
          id,
          jobs.filter(job => job)
        )
      );
    }
    return this._members.get(group) ?? [];
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

  getGroup(id: string): Group | undefined {
    return this._groups.get(id);
  }

  /** Return the name of the notebook that a job runs; null for a job that runs none, as far as is known. */
  notebookOf(job: Job): string | null {
    const api = this.apis.find(one => nameOf(one) === job.api_name);
    const { path } = api ? definitionOf(api) : {};
    return typeof path === 'string' && path.endsWith('.ipynb')
      ? path.slice(path.lastIndexOf('/') + 1)
      : job.cell
        ? 'notebook.ipynb' // its API is gone, or is another task by now
        : null;
  }

  /** Whether the server has older jobs that pass a filter; undefined before it was asked. */
  hasOlder(filter: Filter = {}): boolean | undefined {
    const cursor = this._cursors.get(keyOf(filter));
    return cursor === undefined ? undefined : cursor !== null;
  }

  /** The index up to which the jobs of a group that pass a filter were read; -1 before any was. */
  readUpTo(filter: Filter): number {
    const cursor = this._cursors.get(keyOf(filter));
    return cursor === null ? Infinity : Number(cursor ?? -1);
  }

  /** How many jobs of this environment are in a state. */
  count(status: string): number {
    const known =
      this.inProgress.filter(job => statusOf(job) === status).length +
      countIn(this.groups, status);
    const counted = this._counts.get(keyOf({}))?.[status] ?? 0;
    return this.partial ? Math.max(known, counted) : known;
  }

  /** Whether more jobs are in progress than are known. */
  get partial(): boolean {
    return this._partial;
  }

  /** How many jobs pass a filter, whatever it searches for. */
  total({ api, status, schedule }: Filter = {}): number {
    const passes = (one: { api_name: string; schedule?: string }) =>
      (!api || one.api_name === api) &&
      (!schedule || one.schedule === schedule); // which submits no groups
    const passing =
      this.all.filter(
        job => passes(job) && (!status || status.includes(statusOf(job)))
      ).length + countIn(this.groups.filter(passes), ...(status ?? []));
    const narrowed = { api, status, schedule };
    const counts = this._counts.get(keyOf(narrowed));
    const older = this.hasOlder(narrowed) ?? this.hasOlder();
    const counted = Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
    return older ? Math.max(passing, counted) : passing;
  }

  /** What the server found for a filter with a search; undefined before it was asked. */
  found(filter: Filter): IFound | undefined {
    return this._searches.get(keyOf(filter));
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

  /** Read again what an event named; of a group's job, the group, and the job where it is known. */
  refreshJob(id: string, group?: string): Promise<void> {
    const of = group ?? this._jobs.get(id)?.group;
    if (of) {
      this._touchedGroups.add(of);
    }
    if (!group || this._jobs.has(id)) {
      this._touched.add(id);
    }
    return this.work();
  }

  /** Read a group again. */
  refreshGroup(id: string): Promise<void> {
    this._touchedGroups.add(id);
    return this.work();
  }

  /** Drop a job that was deleted. */
  drop(id: string): void {
    this._dropped.add(id);
    if (this._dropped.size > DROPPED) {
      const [first] = this._dropped;
      this._dropped.delete(first);
    }
    const group = this._jobs.get(id)?.group;
    if (group) {
      this._touchedGroups.add(group);
    }
    if (this._jobs.delete(id)) {
      this.emit();
    } else if (this._groups.size) {
      this._outdated = true; // it may have been the job of a group
    }
    if (group || this._outdated) {
      void this.work();
    }
  }

  /** Drop a group that was deleted, with its jobs. */
  dropGroup(id: string): void {
    if (this.forgetGroup(id)) {
      this.emit();
    }
  }

  /**
   * Keep the jobs of some groups up to date, as far as they were read: a view shows them.
   *
   * Which were read of the others is forgotten: what was not shown may have changed when it is shown again.
   */
  watchGroups(ids: readonly string[]): void {
    const closed = [...this._opened].filter(id => !ids.includes(id));
    closed.forEach(id => this.forgetPages(id));
    this._opened = new Set(ids);
  }

  /** Read the jobs and groups that run, for their progress. */
  refreshRunning(): Promise<void> {
    return this.attempt(async () => {
      const runs = (job: Job) => statusOf(job) === 'running';
      const known = this.inProgress.filter(runs);
      const groups = this.groups.filter(one => countIn([one], 'running'));
      const page = await this.client.jobs(this.environment, {
        status: ['running'],
        limit: 200,
        groups: 'closed'
      });
      this.take(page.jobs);
      this.takeGroups(page.groups);
      const opened = groups.filter(({ id }) => this._opened.has(id));
      await Promise.all([
        this.readGone(
          known.map(job => job.job_id),
          page.jobs
        ),
        this.readGoneGroups(groups, page.groups),
        ...opened.map(({ id }) =>
          this.readJobsOf(
            id,
            this.jobsOf(id)
              .filter(runs)
              .map(job => job.job_id)
          )
        )
      ]);
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
    if (filter.group) {
      this.forgetPages(filter.group, filter);
    }
    return this.attempt(async () => {
      let from: string | null | undefined = cursor;
      let searched = 0;
      let found = 0;
      do {
        const page: JobsPage = await this.readPage(filter, from);
        from = page.next_cursor;
        this.take(page.jobs);
        this.takeGroups(page.groups);
        this._cursors.set(key, from);
        this.keepCounts({ ...filter, search: undefined }, page.counts);
        if (page.searched === undefined) {
          break; // not searched, or by an older server: a page is a page
        }
        const ids = [
          ...page.jobs.map(job => job.job_id),
          ...(filter.group
            ? []
            : (page.groups ?? []).map(({ id }) => id.slice(1)))
        ];
        this.keepFound(filter, ids, page.searched);
        searched += page.searched;
        found += ids.length;
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
      while (
        (this._touched.size ||
          this._touchedGroups.size ||
          this._outdated ||
          this._apisChanged) &&
        !this._disposed
      ) {
        const began = performance.now();
        const { _apisChanged: apis, _outdated: outdated } = this;
        const ids: string[] = [];
        const members = new Map<string, string[]>();
        for (const id of this._touched) {
          const group = this._jobs.get(id)?.group;
          const list = group ? (members.get(group) ?? []) : ids;
          list.push(id);
          if (group) {
            members.set(group, list);
          }
        }
        const groups = [...this._touchedGroups];
        this._touched.clear();
        this._touchedGroups.clear();
        this._apisChanged = this._outdated = false;
        const many = outdated || ids.length > FEW || groups.length > FEW;
        await this.attempt(() =>
          Promise.all([
            ...(apis ? [this.readAPIs()] : []),
            ...(many
              ? [this.readNewest()]
              : [
                  ...ids.map(id => this.readOne(id)),
                  ...groups.map(id => this.readGroup(id))
                ]),
            ...[...members].map(([group, jobs]) => this.readJobsOf(group, jobs))
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
    const knownGroups = this.groupsInProgress;
    const page = await this.client.jobs(this.environment, {
      limit: PAGE,
      counts: true,
      groups: 'closed'
    });
    const found = [...page.jobs];
    const groups = [...(page.groups ?? [])];
    // Ids descend: that of a group is a letter, and the id of its first job.
    const last = [
      ...page.jobs.slice(-1).map(job => job.job_id),
      ...groups.slice(-1).map(group => group.id.slice(1))
    ].reduce((a, b) => (a > b ? a : b), '');
    const { counts } = page;
    this.keepCounts({}, counts);
    // An older server doesn't count; a cluster has other words for these states.
    let missing =
      counts &&
      Object.keys(counts).every(one => statusOf({ status: one }) === one)
        ? IN_PROGRESS.reduce((sum, one) => sum + (counts[one] ?? 0), 0) -
          goingAmong(page)
        : Infinity;
    let left = MOST;
    let cursor = page.next_cursor;
    while (cursor !== null && missing > 0 && left > 0) {
      const more: JobsPage = await this.client.jobs(this.environment, {
        status: IN_PROGRESS,
        limit: left,
        cursor, // older ones than those of the page
        groups: 'closed'
      });
      found.push(...more.jobs);
      groups.push(...(more.groups ?? []));
      missing -= goingAmong(more);
      left -= more.jobs.length + (more.groups?.length ?? 0);
      cursor = more.next_cursor;
    }
    this._partial = cursor !== null && missing > 0;
    const ids = new Set(found.map(job => job.job_id));
    // What the page would have held and doesn't was deleted.
    const isGone = (id: string) => page.next_cursor === null || id <= last;
    for (const [id, job] of [...this._jobs]) {
      if (!job.group && !ids.has(id) && isGone(id)) {
        this._jobs.delete(id);
      }
    }
    const listed = new Set(groups.map(group => group.id));
    for (const id of [...this._groups.keys()]) {
      if (!listed.has(id) && isGone(id.slice(1))) {
        this.forgetGroup(id);
      }
    }
    this.forgetSorted();
    this.take(found);
    this.takeGroups(groups);
    if (!this._cursors.has(keyOf({})) || page.next_cursor === null) {
      this._cursors.set(keyOf({}), page.next_cursor);
    }
    await Promise.all([
      this.readGone(known, found),
      this.readGoneGroups(knownGroups, groups)
    ]);
  }

  /** Read a page of the list, or of the jobs of a group. */
  private async readPage(
    { group, ...filter }: Filter,
    cursor: string | undefined
  ): Promise<JobsPage> {
    if (!group) {
      return this.client.jobs(this.environment, {
        ...filter,
        limit: PAGE,
        cursor,
        counts: true,
        groups: 'closed'
      });
    }
    const page = await this.askGroup(group, { ...filter, limit: PAGE, cursor });
    return {
      jobs: page?.jobs ?? [],
      next_cursor: page?.next_cursor ?? null,
      searched: page?.searched
    };
  }

  /** Read a page of a group's jobs, and keep the group as it is now; null where it was deleted. */
  private async askGroup(
    group: string,
    query: IJobQuery
  ): Promise<GroupResponse | null> {
    const { environment } = this;
    try {
      const page = await this.client.group({ environment, group }, query);
      this.takeGroups([page.group]);
      return page;
    } catch (error) {
      if (!(error instanceof APIError && error.status === 404)) {
        throw error;
      }
      this.forgetGroup(group);
      return null;
    }
  }

  private async readGroup(id: string): Promise<void> {
    if ((await this.askGroup(id, { limit: 1 })) && this._opened.has(id)) {
      await this.readFiltered(id);
    }
  }

  /** Read again the first jobs of a group that pass the filter by which it is shown: others may do so now. */
  private async readFiltered(group: string): Promise<void> {
    for (const key of [...this._cursors.keys()]) {
      const { group: of, ...filter } = filterOf(key);
      if (of === group && filter.status?.length) {
        const page = await this.askGroup(group, { ...filter, limit: PAGE });
        if (page) {
          this.take(page.jobs);
          this._cursors.set(key, page.next_cursor);
        }
      }
    }
  }

  /** Read the groups that were in progress and are not listed as such any more. */
  private async readGoneGroups(
    known: readonly Group[],
    listed: readonly Group[] = []
  ): Promise<void> {
    const ids = new Set(listed.map(group => group.id));
    const gone = known.filter(({ id }) => !ids.has(id) && this._groups.has(id));
    await Promise.all(gone.slice(0, FEW).map(({ id }) => this.readGroup(id)));
  }

  /** Read again jobs of a group that were read before: few one by one, more by the range of their indices. */
  private async readJobsOf(group: string, ids: string[]): Promise<void> {
    if (ids.length <= FEW) {
      await Promise.all(ids.map(id => this.readOne(id)));
      return;
    }
    const indices = ids.map(id => this._jobs.get(id)?.index ?? 0);
    const last = Math.max(...indices);
    let before = Math.min(...indices) - 1;
    while (before < last) {
      const page = await this.askGroup(group, {
        limit: Math.min(last - before, RANGE),
        cursor: before < 0 ? undefined : String(before)
      });
      this.take(page?.jobs ?? []);
      before = Number(page?.next_cursor ?? last);
    }
  }

  /** Read the jobs that were in progress and are not listed as such any more. */
  private async readGone(
    known: readonly string[],
    listed: readonly Job[]
  ): Promise<void> {
    const ids = new Set(listed.map(job => job.job_id));
    const gone = known.filter(id => !ids.has(id) && this._jobs.has(id));
    if (gone.length > FEW) {
      const page = await this.client.jobs(this.environment, {
        limit: 1000,
        groups: 'closed'
      });
      this.take(page.jobs);
      this.takeGroups(page.groups);
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
      const { group, retried_by: next } = job_status;
      if (group && !this._groups.has(group)) {
        await this.readGroup(group); // the job was asked for, and the group is none of the newest
      } else if (group && next && this._opened.has(group)) {
        await this.readOne(next);
      }
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
      if (this._dropped.has(read.job_id)) {
        continue; // an answer that was overtaken by its deletion
      }
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
      if (before !== statusOf(job) && !job.group) {
        (this.moved as Signal<this, IJobChange>).emit({ job, before });
      }
    }
  }

  /** Keep groups as they were just read; one that did not change stays the same object. */
  private takeGroups(groups: readonly Group[] = []): void {
    for (const group of groups) {
      const before = this._groups.get(group.id);
      if (before && JSON.stringify(before) === JSON.stringify(group)) {
        continue;
      }
      this._groups.set(group.id, group);
      this._sortedGroups = null;
      const key = keyOf({ group: group.id });
      const read = this.jobsOf(group.id);
      if (this._cursors.get(key) === null && read.length < group.size) {
        this._cursors.set(key, String(read[read.length - 1]?.index ?? 0)); // jobs have joined it
      }
      if (JSON.stringify(before?.counts) !== JSON.stringify(group.counts)) {
        (this.groupMoved as Signal<this, IGroupChange>).emit({ group, before });
      }
    }
  }

  /** Forget a group, its jobs, and what was read of them; return whether it was known. */
  private forgetGroup(id: string): boolean {
    const known = this._groups.delete(id);
    for (const [key, job] of [...this._jobs]) {
      if (job.group === id) {
        this._jobs.delete(key);
      }
    }
    this.forgetPages(id);
    this.forgetSorted();
    return known;
  }

  /** Forget which of a group's jobs were read, by filters other than one. */
  private forgetPages(group: string, but?: Filter): void {
    for (const key of [...this._cursors.keys()]) {
      if (filterOf(key).group === group && (!but || key !== keyOf(but))) {
        this._cursors.delete(key);
        this._searches.delete(key);
      }
    }
  }

  private keepCounts(filter: Filter, counts: Counts | undefined): void {
    if (counts) {
      this._counts.set(keyOf(filter), counts);
    }
  }

  /** Keep what a search found, in the list or in a group; what another one found is forgotten. */
  private keepFound(filter: Filter, ids: string[], searched: number): void {
    const all = keyOf({ ...filter, group: undefined });
    for (const [key, { of }] of this._searches) {
      if (of !== all) {
        this._cursors.delete(key);
        this._searches.delete(key);
      }
    }
    const key = keyOf(filter);
    const kept = this._searches.get(key);
    this._searches.set(key, {
      of: all,
      ids: new Set([...(kept?.ids ?? []), ...ids]),
      searched: (kept?.searched ?? 0) + searched
    });
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
    this._sortedGroups = this._members = null;
  }

  private _apis: readonly API[] = [];
  private _jobs = new Map<string, Job>();
  private _sorted: readonly Job[] | null = null;
  private _inProgress: readonly Job[] | null = null;
  private _groups = new Map<string, Group>();
  private _sortedGroups: readonly Group[] | null = null;
  private _members: Map<string, Job[]> | null = null;
  /** The groups whose jobs a view shows. */
  private _opened = new Set<string>();
  private _cursors = new Map<string, string | null>();
  private _counts = new Map<string, Counts>();
  private _partial = false;
  /** What searches of the same words found: in the list, and in groups that are open. */
  private _searches = new Map<string, IFound & { of: string }>();
  private _error: Error | null = null;
  private _loaded = false;
  /** The jobs that were deleted last. */
  private _dropped = new Set<string>();
  private _touched = new Set<string>();
  private _touchedGroups = new Set<string>();
  private _apisChanged = false;
  /** Whether something that was deleted may be in the list. */
  private _outdated = false;
  /** The filters for which a page is awaited: a view may ask again each time it is drawn. */
  private _asked = new Set<string>();
  private _working: Promise<void> | null = null;
  private _disposed = false;
}

function keyOf({ api, status, search, group, schedule }: Filter): string {
  const states = [...(status ?? [])].sort();
  const texts = [search, group, schedule].map(text => text ?? '');
  return JSON.stringify([api ?? '', states, ...texts]);
}

/** Return the filter that a key stands for. */
function filterOf(key: string): Filter {
  const [api, status, search, group, schedule] = JSON.parse(key) as [
    string,
    string[],
    string,
    string,
    string
  ];
  const absent = (text: string) => text || undefined;
  return {
    ...{ api, status, group },
    ...{ search: absent(search), schedule: absent(schedule) }
  };
}

/** Return how many jobs of groups are in some states, or in any. */
function countIn(groups: readonly Group[], ...states: string[]): number {
  let count = 0;
  for (const { counts } of groups) {
    for (const [status, jobs] of Object.entries(counts)) {
      if (!states.length || states.includes(statusOf({ status }))) {
        count += jobs;
      }
    }
  }
  return count;
}

/** Return how many jobs of a page are in progress, those of its groups too. */
function goingAmong({ jobs, groups = [] }: JobsPage): number {
  return (
    jobs.filter(job => !hasEnded(job)).length +
    groups.reduce((sum, group) => sum + goingOf(group), 0)
  );
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
