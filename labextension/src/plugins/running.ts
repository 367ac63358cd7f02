import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import type { IRunningSessions } from '@jupyterlab/running';
import { IRunningSessionManagers } from '@jupyterlab/running';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { ellipsesIcon, stopIcon } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { Job } from '../api/contract';
import { LOCAL, statusOf } from '../api/contract';
import { clean, shortId } from '../ui/format';
import type { TaskAPIModel } from '../model/model';
import { refOf } from '../model/model';
import { taskAPIIcon } from '../ui/icon';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { statusLabel } from '../ui/components';

/** Jobs that are shown at most: thousands may wait. */
const MOST = 50;

/** The jobs of this machine that are in progress, as Lab's list of what runs shows them. */
export class RunningJobs implements IRunningSessions.IManager {
  constructor(
    private readonly model: TaskAPIModel,
    private readonly commands: CommandRegistry,
    private readonly trans: TranslationBundle
  ) {
    this.name = trans.__('Jobs');
    this.shutdownLabel = trans.__('Stop');
    this.shutdownAllLabel = trans.__('Stop All');
    this.shutdownAllConfirmationText = trans.__(
      'Stop all jobs in progress on this machine?'
    );
    model.local.changed.connect(this.onChanged, this);
  }

  readonly name: string;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;
  readonly shutdownAllConfirmationText: string;
  readonly shutdownItemIcon = stopIcon;
  readonly supportsMultipleViews = false;
  readonly runningChanged: ISignal<this, void> = new Signal<this, void>(this);

  running(): IRunningSessions.IRunningItem[] {
    const { local } = this.model;
    const items = this.inOrder()
      .slice(0, MOST)
      .map(job => this.item(job));
    const others =
      local.count('running') + local.count('pending') - items.length;
    return others > 0 ? [...items, this.more(others)] : items;
  }

  refreshRunning(): void {
    void this.model.local.refresh();
  }

  shutdownAll(): void {
    void this.stopAll();
  }

  /** What runs, then what waits; each newest first. */
  private inOrder(): Job[] {
    const waits = (job: Job) => (statusOf(job) === 'pending' ? 1 : 0);
    return [...this.model.local.inProgress].sort((a, b) => waits(a) - waits(b));
  }

  private item(job: Job): IRunningSessions.IRunningItem {
    const { commands, trans } = this;
    const ref = { ...refOf(LOCAL, job) };
    const title = [`${job.api_name} · ${job.job_id}`, job.notebook];
    return {
      icon: () => taskAPIIcon,
      label: () => `${clean(job.api_name)} · ${shortId(job.job_id)}`,
      labelTitle: () =>
        title
          .map(text => clean(text ?? ''))
          .join('\n')
          .trim(),
      detail: () => statusLabel(statusOf(job), trans),
      open: () => void commands.execute(CommandIDs.openLog, ref),
      shutdown: () => void commands.execute(CommandIDs.stop, ref)
    };
  }

  private more(count: number): IRunningSessions.IRunningItem {
    const { commands, trans } = this;
    return {
      icon: () => ellipsesIcon,
      label: () => trans.__('%1 more', count),
      labelTitle: () => trans.__('Show jobs'),
      open: () => void commands.execute(CommandIDs.show)
    };
  }

  private async stopAll(): Promise<void> {
    const { client, local } = this.model;
    // Those that wait first: else they start where others were stopped.
    const jobs = this.inOrder().reverse();
    const answers = await Promise.allSettled(
      jobs.map(job => client.stop(refOf(LOCAL, job)))
    );
    await local.refresh();
    const failed = answers.filter(
      (answer, index) =>
        answer.status === 'rejected' &&
        local.inProgress.some(job => job.job_id === jobs[index].job_id)
    ) as PromiseRejectedResult[];
    if (failed.length) {
      const { message } = failed[0].reason as Error;
      Notification.error(
        this.trans.__('Could not stop %1 jobs: %2', failed.length, message),
        { autoClose: 8_000 }
      );
    }
  }

  private onChanged(): void {
    const shown = JSON.stringify(
      this.model.local.inProgress.map(job => [job.job_id, job.status])
    );
    if (shown !== this._shown) {
      this._shown = shown;
      (this.runningChanged as Signal<this, void>).emit();
    }
  }

  private _shown = '[]';
}

/** The jobs in progress, in Lab's own list of what runs. */
export const running: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:running`,
  description: 'Adds jobs in progress to the list of what runs.',
  autoStart: true,
  requires: [ITaskAPI],
  optional: [IRunningSessionManagers, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    managers: IRunningSessionManagers | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load(NAMESPACE);
    managers?.add(new RunningJobs(model, app.commands, trans));
  }
};
