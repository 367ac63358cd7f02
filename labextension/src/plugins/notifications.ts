import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';

import type { IJobRef } from '../api/client';
import type { Group, Job } from '../api/contract';
import { hasEnded, tallyOf } from '../api/contract';
import type { Jobs } from '../model/jobs';
import type { IGroupMove, IMove, TaskAPIModel } from '../model/model';
import { refOf } from '../model/model';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { connectDesktop, Desktop } from './desktop';
import { SeenJobs } from './seen';
import { SwitchedOff } from './switchedoff';
import {
  asJob,
  asks,
  endOf,
  groupWords,
  isTold,
  lineOf,
  typeOf,
  wordsOf
} from './told';

/** Up to so many jobs that end at once have a message each; more share one. */
const FEW = 3;

/** Jobs of which it is asked whether a cell waits for them; more share a message anyway. */
const ASKED = 100;

/** Milliseconds in which jobs end "at once"; a hidden tab waits longer, and so leaves the message to a visible one. */
const AT_ONCE = 400;
const HIDDEN = 1_500;

/** Milliseconds that a message stays on the screen; Lab keeps it in its list of notifications. */
const STAYS = 10_000;

/** Seconds that jobs take at least of which messages tell, unless the setting says otherwise. */
const NOTIFY_AFTER = 10;

/** The key of the desktop notification that tells of many. */
const MANY = `${NAMESPACE}:many`;

/** Shows a message when jobs end. */
export class Notifier {
  constructor(
    private readonly model: TaskAPIModel,
    private readonly seen: SeenJobs,
    private readonly commands: CommandRegistry,
    private readonly trans: TranslationBundle,
    private readonly desktop: Desktop = new Desktop(trans),
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
    void this.notify(environment, ended, true);
  }

  private flush(): void {
    this._timer = null;
    const ended = [...this._ended];
    this._ended.clear();
    ended.forEach(([environment, jobs]) => void this.notify(environment, jobs));
  }

  /** @param away whether they ended while this browser had no page open. */
  private async notify(
    environment: string,
    ended: Job[],
    away = false
  ): Promise<void> {
    const fresh = await this.seen.claim(environment, ended);
    if (!this.enabled && !this.desktop.isOn) {
      return;
    }
    const whole = await this.withWishes(environment, fresh);
    const told = whole.filter(job => isTold(job, this.after));
    const ids = told.length ? await this.waitedFor(environment, told) : [];
    const reported = told.filter(job => asks(job) || !ids.includes(job.job_id));
    if (reported.length) {
      this.report(reported, environment, away);
    }
  }

  /** Return jobs, and the stand-ins of a few groups with what their jobs asked for: a group does not know it. */
  private withWishes(environment: string, jobs: Job[]): Promise<Job[]> {
    const groups = jobs.filter(job => this._groups.has(job.job_id));
    const wished = async (job: Job) => {
      if (!groups.slice(0, FEW).includes(job)) {
        return job;
      }
      const group = { environment, group: job.job_id };
      return this.model.client.group(group, { limit: 1 }).then(
        ({ jobs: [first] }) => ({ ...job, notify: first?.notify }),
        () => job // it was deleted
      );
    };
    return Promise.all(jobs.map(wished));
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

  /** Give each job a message, or all that end at once, or while no page was open, one together. */
  private report(
    jobs: readonly Job[],
    environment: string,
    away: boolean
  ): void {
    const now = Date.now();
    const shown = away
      ? []
      : this._shown.filter(
          ({ id, at }) => now - at < STAYS && Notification.manager.has(id)
        );
    if (away ? jobs.length === 1 : shown.length + jobs.length <= FEW) {
      for (const job of jobs) {
        const id = this.tell(job, environment, away);
        shown.push({ id, at: now, job });
      }
      this._shown = shown;
    } else {
      const all = [...shown.map(({ job }) => job), ...jobs];
      const ids = [...new Set(shown.map(one => one.id))];
      const id = this.summarize(all, ids, away);
      this._shown = all.map(job => ({ id, at: now, job }));
    }
  }

  /** Show a message about a job or a group, and return its id. */
  private tell(job: Job, environment: string, away: boolean): string {
    const { trans } = this;
    const ref = refOf(environment, job);
    const group = this._groups.get(job.job_id);
    const words = group ? groupWords(group, trans) : wordsOf(job, trans);
    const act = group
      ? this.run(CommandIDs.openJobs, { environment, group: group.id })
      : this.run(CommandIDs.showJob, ref);
    if (!away) {
      this.desktop.show(job.job_id, words, act);
    }
    const actions = group
      ? this.action(trans.__('Show Jobs'), CommandIDs.show)
      : [
          ...this.action(trans.__('Show Log'), CommandIDs.openLog, ref),
          ...this.action(trans.__('Show Job'), CommandIDs.showJob, ref)
        ];
    return this.message(lineOf(words), typeOf(job), actions);
  }

  /** Put one message in the place of several, and return its id. */
  private summarize(
    jobs: readonly Job[],
    [id, ...others]: readonly string[],
    away: boolean
  ): string {
    const { trans } = this;
    const tallies = jobs.map(job => this.tally(job));
    const count = tallies.reduce((sum, [all]) => sum + all, 0);
    const failed = tallies.reduce((sum, [, bad]) => sum + bad, 0);
    const said = failed
      ? trans.__('%1 jobs ended, %2 of them failed', count, failed)
      : trans.__('%1 jobs succeeded', count);
    const message = away
      ? trans.__('While this page was closed, %1', said)
      : said;
    const type = failed ? 'warning' : 'success';
    const actions = this.action(trans.__('Show Jobs'), CommandIDs.show);
    others.forEach(other => Notification.dismiss(other));
    if (!away) {
      const keys = jobs.map(job => job.job_id);
      const words = { title: message, body: '' };
      this.desktop.show(MANY, words, this.run(CommandIDs.show), keys);
    }
    if (!id) {
      return this.message(message, type, actions);
    }
    Notification.update({ id, message, type, actions, autoClose: STAYS });
    return id;
  }

  /** Show a message, unless the user wants none, and return its id. */
  private message(
    message: string,
    type: Notification.TypeOptions,
    actions: Notification.IAction[]
  ): string {
    return this.enabled
      ? Notification.emit(message, type, { autoClose: STAYS, actions })
      : '';
  }

  /** Return how many jobs one stands for, and how many of them failed. */
  private tally(job: Job): [all: number, bad: number] {
    const group = this._groups.get(job.job_id);
    const tally = tallyOf(group ?? { counts: { [job.status]: 1 } });
    return [Object.values(tally).reduce((a, b) => a + b, 0), tally.failed];
  }

  /** A button of a message; none where there is no such command. */
  private action(
    label: string,
    command: string,
    args?: IJobRef
  ): Notification.IAction[] {
    const callback = this.run(command, args);
    return this.commands.hasCommand(command) ? [{ label, callback }] : [];
  }

  /** Return what runs a command, where there is one. */
  private run(
    command: string,
    args?: IJobRef | { environment: string; group: string }
  ): () => void {
    const { commands } = this;
    return () => {
      if (commands.hasCommand(command)) {
        void commands.execute(command, { ...args });
      }
    };
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
  optional: [ISettingRegistry, ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    registry: ISettingRegistry | null,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ) => {
    const trans = (translator ?? nullTranslator).load(NAMESPACE);
    const seen = new SeenJobs(app.serviceManager.serverSettings.baseUrl);
    const desktop = new Desktop(trans);
    new SwitchedOff(model, trans, app.serviceManager.serverSettings.baseUrl);
    const begin = (enabled: boolean, after = NOTIFY_AFTER) =>
      new Notifier(model, seen, app.commands, trans, desktop, enabled, after);
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
      connectDesktop(app.commands, desktop, settings, trans);
      const watch = () => {
        model.background = desktop.isOn;
      };
      desktop.changed.connect(watch);
      watch();
      palette?.addItem({
        command: CommandIDs.desktop,
        category: trans.__('Task API')
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
