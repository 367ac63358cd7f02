import type { Event } from '@jupyterlab/services';
import type { IDisposable } from '@lumino/disposable';
import { DisposableDelegate } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, IStream, Signal } from '@lumino/signaling';

import type { IJobRef, TaskAPIClient } from '../api/client';
import type { Environment, Job } from '../api/contract';
import { API_EVENTS, JOB_EVENTS, LOCAL } from '../api/contract';
import { IGroupChange, IJobChange, Jobs } from './jobs';
import { SessionEnded, Unreachable } from '../api/request';

/** Milliseconds between two polls of running jobs while a view shows them: progress has no events. */
const PROGRESS = 700;

/** Milliseconds between two polls where changes have no events, as on a cluster. */
const FALLBACK = 3_000;

/** Milliseconds between two polls of a cluster while no view shows it: a message still says which jobs ended. */
const SELDOM = 15_000;

/** Milliseconds between two polls where there are events: for those that were missed while disconnected. */
const SLOW = 60_000;

/** A job whose status changed, and its environment. */
export interface IMove extends IJobChange {
  environment: string;
}

/** A group of which jobs changed their status, and its environment. */
export interface IGroupMove extends IGroupChange {
  environment: string;
}

/**
 * What all views of this extension show: environments, and the jobs of those that are on show.
 *
 * Jupyter's events keep it up to date. It polls for progress, for clusters, and where events are missing; not while
 * the page is hidden, but for a cluster whose jobs' ends the desktop is told of.
 */
export class TaskAPIModel implements IDisposable {
  constructor(
    readonly client: TaskAPIClient,
    events: IStream<unknown, Event.Emission>
  ) {
    this.local = this.jobs(LOCAL);
    events.connect(this.onEvent, this);
    this._progressPoll = new Poll({
      auto: false,
      factory: () => this.pollProgress(),
      frequency: { interval: PROGRESS, backoff: false },
      name: 'taskapi-jupyter:progress',
      standby: () => document.hidden || !this._watchers || this.signedOut
    });
    this.local.moved.connect((_, { job }) => {
      this._unannounced ||= !this._announced.has(job.job_id);
    });
    this._poll = new Poll({
      auto: false,
      factory: () => this.poll(),
      frequency: { interval: 1_000, backoff: false },
      name: 'taskapi-jupyter:jobs',
      standby: () =>
        document.hidden && !(this.background && this.current !== this.local)
    });
    document.addEventListener('visibilitychange', this.onVisible);
  }

  /** The environment, its jobs, the selection or the connection changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  /** A job that is in no group is new or has another status, in any environment that is read. */
  readonly moved: ISignal<this, IMove> = new Signal<this, IMove>(this);

  /** A group is new, or other jobs of it are in each status. */
  readonly groupMoved: ISignal<this, IGroupMove> = new Signal<this, IGroupMove>(
    this
  );

  /** Whether a cluster is read while the page is hidden, too: the desktop is told of ends. */
  background = false;

  /** The jobs of this machine. */
  readonly local: Jobs;

  /** The jobs of the environment that is chosen. */
  get current(): Jobs {
    return this.jobs(this._environment);
  }

  /** The environments that the server knows; only this machine's before its first answer. */
  get environments(): readonly Environment[] {
    return this._environments;
  }

  /** The name of the environment that is chosen. */
  get environment(): string {
    return this._environment;
  }
  set environment(name: string) {
    this._chosen = true;
    this.show(name);
  }

  /** Whether the user chose it; else it is the default one. */
  get isChosen(): boolean {
    return this._chosen;
  }

  /** The selected job as last read; null where none is selected, or it was deleted. */
  get selected(): Job | null {
    return this._selected === null
      ? null
      : (this.current.get(this._selected) ?? null);
  }

  /** Select a job of the current environment. */
  select(id: string | null): void {
    if (id !== this._selected) {
      this._selected = id;
      this.emit();
    }
  }

  /** Whether the Jupyter server answered when it was last asked. */
  get connected(): boolean {
    return !(this.local.error instanceof Unreachable);
  }

  /** Whether this session has ended: then it polls rarely, until the user signs in and comes back or refreshes. */
  get signedOut(): boolean {
    return [this.local, this.current].some(
      jobs => jobs.error instanceof SessionEnded
    );
  }

  /** Whether an environment keeps ended jobs until they are deleted: a cluster deletes them by itself. */
  keeps(environment: string): boolean {
    const found = this._environments.find(one => one.name === environment);
    return found?.provider !== 'cortex';
  }

  /** Start polling. */
  start(): void {
    void this._poll.start();
    void this._progressPoll.start();
  }

  /** Read everything again now. */
  async refresh(): Promise<void> {
    const shown = new Set([this.local, this.current]);
    await Promise.all([
      this.readEnvironments(),
      ...[...shown].map(jobs => jobs.refresh())
    ]);
  }

  /** Have progress polled until the returned object is disposed: a view shows jobs. */
  watch(): IDisposable {
    this._watchers += 1;
    void this.current.refresh();
    return new DisposableDelegate(() => {
      this._watchers -= 1;
    });
  }

  /** Return the jobs of an environment. */
  jobs(environment: string): Jobs {
    let jobs = this._jobs.get(environment);
    if (!jobs) {
      jobs = new Jobs(environment, this.client);
      jobs.changed.connect(this.emit, this);
      jobs.moved.connect((_, change) => {
        (this.moved as Signal<this, IMove>).emit({ environment, ...change });
      });
      jobs.groupMoved.connect((_, change) => {
        const moved = this.groupMoved as Signal<this, IGroupMove>;
        moved.emit({ environment, ...change });
      });
      this._jobs.set(environment, jobs);
    }
    return jobs;
  }

  /** Return where a job of the current environment is. */
  ref(job: Job): IJobRef {
    return refOf(this._environment, job);
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    if (!this._disposed) {
      this._disposed = true;
      document.removeEventListener('visibilitychange', this.onVisible);
      this._progressPoll.dispose();
      this._poll.dispose();
      this._jobs.forEach(jobs => jobs.dispose());
      Signal.clearData(this);
    }
  }

  private onVisible = (): void => {
    if (!document.hidden && this.signedOut) {
      void this.refresh(); // the user may have signed in meanwhile, in another tab
    }
  };

  private onEvent(_: unknown, event: Event.Emission): void {
    if (this.signedOut) {
      return; // what is missed now is read after signing in
    }
    const {
      schema_id: schema,
      job_id: id,
      status,
      group
    } = event as unknown as {
      [key: string]: unknown;
    };
    if (schema === API_EVENTS) {
      void this.local.refreshAPIs();
    } else if (schema === JOB_EVENTS && typeof id === 'string') {
      this._announced.add(id);
      if (status === 'deleted') {
        this.local.drop(id);
      } else {
        const of = typeof group === 'string' ? group : undefined;
        void this.local.refreshJob(id, of);
      }
    }
  }

  private async pollProgress(): Promise<void> {
    const { current } = this;
    if (current.count('running') > 0) {
      await current.refreshRunning();
    }
  }

  /** Read everything for changes without events; where there were some, poll more often. */
  private async poll(): Promise<void> {
    const { current, local } = this;
    const now = Date.now();
    if (!document.hidden && now - this._polledAt >= this._pause) {
      this._polledAt = now;
      const first = !local.loaded;
      this._unannounced = false;
      await Promise.all([this.readEnvironments(), local.refresh()]);
      const missed = !this.connected || (this._unannounced && !first);
      this._pause = missed
        ? FALLBACK
        : first || this.signedOut
          ? SLOW
          : Math.min(this._pause * 2, SLOW);
      this._announced.clear();
    }
    const often = this._watchers ? FALLBACK : SELDOM;
    if (
      current !== local &&
      now - this._clusterAt >=
        (this.signedOut || document.hidden ? SLOW : often)
    ) {
      await current.refresh();
      this._clusterAt = Date.now(); // from its end on: a cluster may be slow
    }
  }

  private show(environment: string): void {
    if (environment !== this._environment) {
      this._environment = environment;
      this._selected = null;
      this.emit();
      void this.jobs(environment).refresh();
    }
  }

  private async readEnvironments(): Promise<void> {
    let answer;
    try {
      answer = await this.client.environments();
    } catch {
      return; // reading the jobs says so
    }
    this._environments = answer.environments;
    const known = answer.environments.some(
      one => one.name === this._environment
    );
    if (!known || (!this._settled && !this._chosen)) {
      this._chosen = false;
      this.show(answer.default_environment);
    }
    this._settled = true;
    this.emit();
  }

  private emit(): void {
    if (!this._disposed) {
      (this.changed as Signal<this, void>).emit();
    }
  }

  private _environments: readonly Environment[] = [
    { name: LOCAL, provider: LOCAL }
  ];
  private _settled = false; // whether the server has answered which there are
  private _chosen = false;
  private _environment = LOCAL;
  private _selected: string | null = null;
  private _jobs = new Map<string, Jobs>();
  private _watchers = 0;
  private _polledAt = -Infinity;
  private _clusterAt = -Infinity;
  private _pause = 0;
  private _announced = new Set<string>();
  private _unannounced = false;
  private _progressPoll: Poll;
  private _poll: Poll;
  private _disposed = false;
}

/** Return where a job is. */
export function refOf(environment: string, job: Job): IJobRef {
  return { environment, api: job.api_name, id: job.job_id };
}
