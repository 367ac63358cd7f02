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

import type { Group, Job } from '../api/contract';
import { goingOf, LOCAL, statusOf, tallyOf } from '../api/contract';
import { groupName, groupWords } from '../sidebar/group';
import { clean, shortId } from '../ui/format';
import type { TaskAPIModel } from '../model/model';
import { refOf } from '../model/model';
import { taskAPIIcon } from '../ui/icon';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { statusLabel } from '../ui/components';

/** Jobs and groups that are shown at most: thousands may wait. */
const MOST = 50;

/** The jobs of this machine that are in progress, as Lab's list of what runs shows them; a group is one entry. */
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
    const shown = this.inOrder().slice(0, MOST);
    const items = shown.map(one =>
      isGroup(one) ? this.groupItem(one) : this.item(one)
    );
    const others = shown.reduce(
      (left, one) => left - (isGroup(one) ? goingOf(one) : 1),
      local.count('running') + local.count('pending')
    );
    return others > 0 ? [...items, this.more(others)] : items;
  }

  refreshRunning(): void {
    void this.model.local.refresh();
  }

  shutdownAll(): void {
    void this.stopAll();
  }

  /** What runs, then what waits; each newest first. */
  private inOrder(): (Job | Group)[] {
    const { local } = this.model;
    const waits = (one: Job | Group) =>
      isGroup(one) ? !tallyOf(one).running : statusOf(one) === 'pending';
    const place = (one: Job | Group) =>
      isGroup(one) ? one.id.slice(1) : one.job_id;
    return [...local.inProgress, ...local.groupsInProgress].sort(
      (a, b) =>
        Number(waits(a)) - Number(waits(b)) || (place(a) < place(b) ? -1 : 1)
    );
  }

  private groupItem(group: Group): IRunningSessions.IRunningItem {
    const { commands, trans } = this;
    const ref = { environment: LOCAL, group: group.id };
    const api = clean(group.api_name);
    return {
      icon: () => taskAPIIcon,
      label: () => `${api} · ${groupName(group)}`,
      labelTitle: () =>
        [`${api} · ${clean(group.id)}`, clean(group.notebook ?? '')]
          .join('\n')
          .trim(),
      detail: () => groupWords(group, trans),
      open: () => {
        const { openJobs, show } = CommandIDs;
        void (commands.hasCommand(openJobs)
          ? commands.execute(openJobs, ref)
          : commands.execute(show));
      },
      shutdown: () => void commands.execute(CommandIDs.stopGroup, ref)
    };
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
    const stopped = this.inOrder().reverse();
    const answers = await Promise.allSettled(
      stopped.map(one =>
        isGroup(one)
          ? client.stopGroup({ environment: LOCAL, group: one.id })
          : client.stop(refOf(LOCAL, one))
      )
    );
    await local.refresh();
    const isLeft = (one: Job | Group) =>
      isGroup(one)
        ? local.groupsInProgress.some(({ id }) => id === one.id)
        : local.inProgress.some(job => job.job_id === one.job_id);
    const failed = answers.filter(
      (answer, index) => answer.status === 'rejected' && isLeft(stopped[index])
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
    const { inProgress, groupsInProgress } = this.model.local;
    const shown = JSON.stringify([
      inProgress.map(job => [job.job_id, job.status]),
      groupsInProgress.map(group => [group.id, group.counts])
    ]);
    if (shown !== this._shown) {
      this._shown = shown;
      (this.runningChanged as Signal<this, void>).emit();
    }
  }

  private _shown = '[[],[]]';
}

function isGroup(one: Job | Group): one is Group {
  return 'counts' in one;
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
