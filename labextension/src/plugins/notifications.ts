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
import type { Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import { clean, duration, moment, shortId, took, why } from '../ui/format';
import type { Jobs } from '../model/jobs';
import type { IMove, TaskAPIModel } from '../model/model';
import { refOf } from '../model/model';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { statusLabel } from '../ui/components';

/** Up to so many jobs that end at once have a message each; more share one. */
const FEW = 3;

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
 * What ended before an environment was first seen counts as seen.
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
      until: Math.max(0, ...times.values()),
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
    public enabled = true
  ) {
    model.moved.connect(this.onMoved, this);
    model.changed.connect(this.onChanged, this);
    this.onChanged();
  }

  private onMoved(_: unknown, { environment, job, before }: IMove): void {
    const began = this._began.get(environment);
    // What comes with a page of older jobs ended long ago.
    const old = before === undefined && endOf(job) <= (began ?? Infinity);
    if (hasEnded(job) && !old) {
      const ended = this._ended.get(environment) ?? [];
      ended.push(job);
      this._ended.set(environment, ended);
    }
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

  private begin({ environment, all }: Jobs): void {
    const ended = all.filter(hasEnded);
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
    // No message for a job that was stopped: who stopped it knows.
    const reported = fresh.filter(job => statusOf(job) !== 'stopped');
    if (this.enabled && reported.length) {
      this.report(reported, environment);
    }
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
        const id = Notification.emit(messageOf(job, trans), typeOf(job), {
          autoClose: STAYS,
          actions: [
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
    const failed = jobs.filter(job => statusOf(job) !== 'succeeded').length;
    const message = failed
      ? trans.__('%1 jobs ended, %2 of them failed', jobs.length, failed)
      : trans.__('%1 jobs succeeded', jobs.length);
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
    const begin = (enabled: boolean) =>
      new Notifier(model, seen, app.commands, trans, enabled);
    const load = async () => {
      const settings = await registry!.load(`${NAMESPACE}:plugin`);
      const enabled = () => settings.get('notifications').composite !== false;
      const notifier = begin(enabled());
      settings.changed.connect(() => {
        notifier.enabled = enabled();
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
