import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';

import type { IJobRef } from '../api/client';
import type { Group, Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import { serverTime } from '../api/request';
import {
  clean,
  created,
  duration,
  moment,
  shortId,
  took,
  why
} from '../ui/format';
import type { Jobs } from '../model/jobs';
import type { IGroupMove, IMove, TaskAPIModel } from '../model/model';
import { refOf } from '../model/model';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { statusLabel } from '../ui/components';

/** Up to so many jobs that end at once have a message each; more share one. */
const FEW = 3;

/** Jobs of which it is asked whether a cell waits for them; more share a message anyway. */
const ASKED = 100;

/** Milliseconds in which jobs end "at once"; a hidden tab waits longer, and so leaves the message to a visible one. */
const AT_ONCE = 400;
const HIDDEN = 1_500;

/** Milliseconds that a message stays on the screen; Lab keeps it in its list of notifications. */
const STAYS = 10_000;

/** Lab cuts messages at 140 characters. */
const LONGEST = 140;

/** Milliseconds until what one tab stored is visible to all. */
const SPREADS = 1_000;

/** Ended jobs that are remembered one by one; those that ended before the oldest of them count as seen. */
const REMEMBERED = 300;

/** Seconds that jobs take at least of which messages tell, unless the setting says otherwise. */
const NOTIFY_AFTER = 10;

/** A job that ended, in the words that are stored: its id, and when it ended, in milliseconds. */
type Ended = [id: string, at: number];

/** What this browser saw of an environment: all that ended up to `until`, and `ended` since. */
interface ISeen {
  until: number;
  ended: Ended[];
}

/**
 * Which jobs this browser has seen end: kept in its storage, shared by its tabs.
 *
 * What ended before an environment was first seen counts as seen, whenever it is read: the server's clock says when
 * that was.
 */
export class SeenJobs {
  /** @param server the server's base URL: several may share an origin, and so its storage. */
  constructor(server: string) {
    this._key = `${NAMESPACE}:ended:${server}`;
  }

  /** Mark jobs that ended as seen, and return those that were not; of two tabs that ask, one is given a job. */
  claim(environment: string, jobs: readonly Job[]): Promise<Job[]> {
    const { locks } = navigator; // on https and localhost alone
    if (!locks) {
      return Promise.resolve(this.mark(environment, jobs));
    }
    return new Promise((resolve, reject) => {
      const claim = async () => {
        const fresh = this.mark(environment, jobs);
        resolve(fresh);
        if (fresh.length) {
          // Another tab's process does not see at once what was stored here.
          await new Promise(seen => setTimeout(seen, SPREADS));
        }
      };
      locks.request(this._key, claim).catch(reject);
    });
  }

  private mark(environment: string, jobs: readonly Job[]): Job[] {
    const all = this.read();
    const times = new Map(jobs.map(job => [job, endOf(job)]));
    const seen = all[environment] ?? {
      until: Math.max(serverTime() ?? 0, ...times.values()),
      ended: []
    };
    const known = new Set(seen.ended.map(([id]) => id));
    const fresh = jobs.filter(
      job => times.get(job)! > seen.until && !known.has(job.job_id)
    );
    const ended = seen.ended
      .concat(fresh.map(job => [job.job_id, times.get(job)!]))
      .sort(([, a], [, b]) => b - a);
    const [, forgotten = seen.until] = ended[REMEMBERED] ?? [];
    if (fresh.length || !(environment in all)) {
      this.write({
        ...all,
        [environment]: { until: forgotten, ended: ended.slice(0, REMEMBERED) }
      });
    }
    return fresh;
  }

  private read(): { [environment: string]: ISeen } {
    try {
      const kept: unknown = JSON.parse(localStorage.getItem(this._key) ?? '');
      if (isSeen(kept)) {
        this._memory = kept;
      }
    } catch {
      // nothing is kept yet, or nothing can be kept
    }
    return this._memory;
  }

  private write(seen: { [environment: string]: ISeen }): void {
    this._memory = seen;
    try {
      localStorage.setItem(this._key, JSON.stringify(seen));
    } catch {
      // full or forbidden: then until the page is left
    }
  }

  private readonly _key: string;
  private _memory: { [environment: string]: ISeen } = {};
}

/** Shows a message when jobs end. */
export class Notifier {
  constructor(
    private readonly model: TaskAPIModel,
    private readonly seen: SeenJobs,
    private readonly commands: CommandRegistry,
    private readonly trans: TranslationBundle,
    /** Whether messages are shown; jobs that end are marked as seen in any case. */
    public enabled = true,
    /** Seconds that jobs take at least of which messages tell. */
    public after = 0
  ) {
    model.moved.connect(this.onMoved, this);
    model.groupMoved.connect(this.onGroupMoved, this);
    model.changed.connect(this.onChanged, this);
    this.onChanged();
  }

  private onMoved(_: unknown, { environment, job, before }: IMove): void {
    const began = this._began.get(environment);
    // What comes with a page of older jobs ended long ago.
    const old = before === undefined && endOf(job) <= (began ?? Infinity);
    if (hasEnded(job) && !old) {
      this.add(environment, job);
    }
  }

  private onGroupMoved(_: unknown, { environment, group }: IGroupMove): void {
    const began = this._began.get(environment);
    const job = group.end_time && !this._groups.has(group.id) && asJob(group);
    if (job && began !== undefined && endOf(job) > began) {
      this._groups.set(group.id, group);
      this.add(environment, job);
    }
  }

  private add(environment: string, ...ended: Job[]): void {
    const known = this._ended.get(environment) ?? [];
    this._ended.set(environment, [...known, ...ended]);
  }

  private onChanged(): void {
    const { current, local } = this.model;
    for (const jobs of new Set([local, current])) {
      // Only once the list was read it is known what ended before this page was opened.
      if (jobs.hasOlder() !== undefined && !this._began.has(jobs.environment)) {
        this.begin(jobs);
      }
    }
    if (this._ended.size && this._timer === null) {
      const wait = document.hidden ? HIDDEN : AT_ONCE;
      this._timer = setTimeout(() => this.flush(), wait);
    }
  }

  private begin(jobs: Jobs): void {
    const { environment, all } = jobs;
    const groups = jobs.groups.filter(({ end_time }) => end_time);
    groups.forEach(group => this._groups.set(group.id, group));
    const ended = [...all.filter(hasEnded), ...groups.map(asJob)];
    this._began.set(environment, Math.max(0, ...ended.map(endOf)));
    this._ended.delete(environment);
    void this.notify(environment, ended);
  }

  private flush(): void {
    this._timer = null;
    const ended = [...this._ended];
    this._ended.clear();
    ended.forEach(([environment, jobs]) => void this.notify(environment, jobs));
  }

  private async notify(environment: string, ended: Job[]): Promise<void> {
    const fresh = await this.seen.claim(environment, ended);
    if (!this.enabled) {
      return;
    }
    // No message for what was stopped: who stopped it knows; nor for a job that is tried again.
    const told = fresh.filter(
      job =>
        !job.retried_by &&
        statusOf(job) !== 'stopped' &&
        spanOf(job) >= this.after
    );
    const ids = told.length ? await this.waitedFor(environment, told) : [];
    const reported = told.filter(job => !ids.includes(job.job_id));
    if (reported.length) {
      this.report(reported, environment);
    }
  }

  /** Return the ids of those that a cell waits for, or just did: it says how they ended. */
  private async waitedFor(
    environment: string,
    jobs: readonly Job[]
  ): Promise<readonly string[]> {
    const asked = jobs.slice(0, ASKED).map(({ job_id: id }) => id);
    return this.model.client.waits(environment, asked).then(
      ({ ids }) => ids,
      () => [] // an older server knows nothing of it
    );
  }

  /** Give each job a message, or all that end at once one together. */
  private report(jobs: readonly Job[], environment: string): void {
    const { trans } = this;
    const now = Date.now();
    const shown = this._shown.filter(
      ({ id, at }) => now - at < STAYS && Notification.manager.has(id)
    );
    if (shown.length + jobs.length <= FEW) {
      for (const job of jobs) {
        const ref = refOf(environment, job);
        const group = this._groups.get(job.job_id);
        const message = group
          ? groupMessage(group, trans)
          : messageOf(job, trans);
        const id = Notification.emit(message, typeOf(job), {
          autoClose: STAYS,
          actions: group
            ? this.action(trans.__('Show Jobs'), CommandIDs.show)
            : [
                ...this.action(trans.__('Show Log'), CommandIDs.openLog, ref),
                ...this.action(trans.__('Show Job'), CommandIDs.showJob, ref)
              ]
        });
        shown.push({ id, at: now, job });
      }
      this._shown = shown;
    } else {
      const all = [...shown.map(({ job }) => job), ...jobs];
      const id = this.summarize(all, [...new Set(shown.map(one => one.id))]);
      this._shown = all.map(job => ({ id, at: now, job }));
    }
  }

  /** Put one message in the place of several, and return its id. */
  private summarize(
    jobs: readonly Job[],
    [id, ...others]: readonly string[]
  ): string {
    const { trans } = this;
    const tallies = jobs.map(job => this.tally(job));
    const count = tallies.reduce((sum, [all]) => sum + all, 0);
    const failed = tallies.reduce((sum, [, bad]) => sum + bad, 0);
    const message = failed
      ? trans.__('%1 jobs ended, %2 of them failed', count, failed)
      : trans.__('%1 jobs succeeded', count);
    const type = failed ? 'warning' : 'success';
    const options = {
      autoClose: STAYS,
      actions: this.action(trans.__('Show Jobs'), CommandIDs.show)
    };
    others.forEach(other => Notification.dismiss(other));
    if (id === undefined) {
      return Notification.emit(message, type, options);
    }
    Notification.update({ id, message, type, ...options });
    return id;
  }

  /** Return how many jobs one stands for, and how many of them failed. */
  private tally(job: Job): [all: number, bad: number] {
    const group = this._groups.get(job.job_id);
    const counts = group?.counts ?? { [job.status]: 1 };
    const all = Object.entries(counts);
    const sum = (some: typeof all) => some.reduce((a, [, n]) => a + n, 0);
    const isBad = (status: string) =>
      !['succeeded', 'stopped'].includes(statusOf({ status }));
    return [sum(all), sum(all.filter(([status]) => isBad(status)))];
  }

  /** A button of a message; none where there is no such command. */
  private action(
    label: string,
    command: string,
    ref?: IJobRef
  ): Notification.IAction[] {
    const { commands } = this;
    const callback = () => void commands.execute(command, { ...ref });
    return commands.hasCommand(command) ? [{ label, callback }] : [];
  }

  /** The environments that were read, with when the last of their jobs had ended. */
  private _began = new Map<string, number>();
  private _ended = new Map<string, Job[]>();
  /** Groups that have ended, by id. */
  private _groups = new Map<string, Group>();
  private _timer: ReturnType<typeof setTimeout> | null = null;
  /** The jobs of messages that may still be on the screen. */
  private _shown: { id: string; at: number; job: Job }[] = [];
}

/** Shows a message when jobs end, once in each browser. */
export const notifications: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:notifications`,
  description: 'Shows a message when a job ends.',
  autoStart: true,
  requires: [ITaskAPI],
  optional: [ISettingRegistry, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    registry: ISettingRegistry | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load(NAMESPACE);
    const seen = new SeenJobs(app.serviceManager.serverSettings.baseUrl);
    const begin = (enabled: boolean, after = NOTIFY_AFTER) =>
      new Notifier(model, seen, app.commands, trans, enabled, after);
    const load = async () => {
      const settings = await registry!.load(`${NAMESPACE}:plugin`);
      const enabled = () => settings.get('notifications').composite !== false;
      const after = () => {
        const { composite } = settings.get('notify_after');
        return typeof composite === 'number' ? composite : NOTIFY_AFTER;
      };
      const notifier = begin(enabled(), after());
      settings.changed.connect(() => {
        notifier.enabled = enabled();
        notifier.after = after();
      });
    };
    if (registry) {
      load().catch((reason: unknown) => {
        console.warn('The settings of taskapi-jupyter can’t be read.', reason);
        begin(true);
      });
    } else {
      begin(true);
    }
  }
};

/** Return when a job ended, in milliseconds. */
function endOf(job: Job): number {
  return moment(job.end_time)?.getTime() ?? 0;
}

/** Return the seconds that a job ran, or waited where it never did. */
function spanOf(job: Job): number {
  const begun = created(job)?.getTime() ?? 0;
  return took(job) ?? (endOf(job) - begun) / 1000;
}

/** Return a job that stands for a group that has ended. */
function asJob(group: Group): Job {
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
function groupMessage(group: Group, trans: TranslationBundle): string {
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
  return [
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
}

function typeOf(job: Job): Notification.TypeOptions {
  switch (statusOf(job)) {
    case 'succeeded':
      return 'success';
    case 'timed_out':
      return 'warning';
    default:
      return 'error';
  }
}

/** Say in one line how a job ended. */
function messageOf(job: Job, trans: TranslationBundle): string {
  const name = clean(job.api_name, 40);
  const id = shortId(job.job_id);
  const span = duration(took(job));
  const status = statusOf(job);
  if (status === 'succeeded') {
    return span
      ? trans.__('%1 · %2 succeeded after %3', name, id, span)
      : trans.__('%1 · %2 succeeded', name, id);
  }
  const label = statusLabel(status, trans);
  const head = span
    ? trans.__('%1 · %2: %3 after %4', name, id, label, span)
    : trans.__('%1 · %2: %3', name, id, label);
  const reason = why(job);
  return clean(reason ? `${head}: ${reason}` : head, LONGEST);
}

function isSeen(kept: unknown): kept is { [environment: string]: ISeen } {
  return (
    typeof kept === 'object' &&
    kept !== null &&
    Object.values(kept).every(
      (seen: Partial<ISeen> | null) =>
        typeof seen?.until === 'number' &&
        Array.isArray(seen.ended) &&
        seen.ended.every(Array.isArray)
    )
  );
}
