import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { IStatusBar } from '@jupyterlab/statusbar';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';
import React from 'react';

import type { TaskAPIModel } from '../model/model';
import { taskAPIIcon } from '../ui/icon';
import { groupName, groupWords } from '../sidebar/group';
import { goingWords } from '../ui/words';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';

/** Groups that are named at most. */
const MOST = 5;

/** How many jobs and groups of this machine are in progress; nothing to see where none is. */
export class JobCount extends ReactWidget {
  constructor(
    private readonly model: TaskAPIModel,
    private readonly trans: TranslationBundle,
    private readonly open: () => void
  ) {
    super();
    this.addClass('jp-TaskAPI-Status');
    model.changed.connect(this.onChanged, this);
    this.onChanged();
  }

  /** It has something to say now, or no more. */
  readonly activeChanged: ISignal<this, void> = new Signal<this, void>(this);

  /** Whether there is something to say. */
  get active(): boolean {
    return this._text !== '';
  }

  dispose(): void {
    this.model.changed.disconnect(this.onChanged, this);
    super.dispose();
  }

  protected render(): JSX.Element {
    const title = this.trans.__('%1. Show jobs.', this._title);
    return (
      <button
        type="button"
        className="jp-TaskAPI-Status-button"
        title={title}
        aria-label={title}
        onClick={this.open}
      >
        <taskAPIIcon.react
          tag="span"
          width="16px"
          height="16px"
          aria-hidden="true"
        />
        <span>{this._text}</span>
      </button>
    );
  }

  private onChanged(): void {
    const { model, trans } = this;
    const groups = model.local.groupsInProgress;
    const [running, pending] = ['running', 'pending'].map(
      status =>
        model.local.count(status) -
        groups.reduce((sum, { counts }) => sum + (counts[status] ?? 0), 0)
    );
    const progress =
      groups.reduce((sum, group) => sum + group.progress, 0) / groups.length;
    const counts = [
      goingWords(running, pending, trans),
      groups.length &&
        trans._n(
          '%1 group (%2 %)',
          '%1 groups (%2 %)',
          groups.length,
          Math.floor(100 * progress)
        )
    ].filter(Boolean);
    const each = groups
      .slice(0, MOST)
      .map(group => `\n${groupName(group, 60)}: ${groupWords(group, trans)}`);
    const unreachable = !model.connected;
    const text = unreachable
      ? trans.__('server unreachable')
      : model.signedOut
        ? trans.__('signed out')
        : counts.join(', ');
    const shown = text + each.join('');
    if (shown !== this._shown) {
      this._shown = shown;
      this._text = text;
      this._title = unreachable
        ? trans.__('The Jupyter server can’t be reached')
        : model.signedOut
          ? trans.__('Your session has ended: sign in to Jupyter again')
          : trans.__('Jobs on this machine: %1', text) + each.join('');
      this.update();
      (this.activeChanged as Signal<this, void>).emit();
    }
  }

  private _shown = '';
  private _text = '';
  private _title = '';
}

/** The number of jobs in progress, in the status bar. */
export const status: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:status`,
  description: 'Shows in the status bar how many jobs are in progress.',
  autoStart: true,
  requires: [ITaskAPI],
  optional: [IStatusBar, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    statusBar: IStatusBar | null,
    translator: ITranslator | null
  ) => {
    if (!statusBar) {
      return; // as in Notebook 7
    }
    const trans = (translator ?? nullTranslator).load(NAMESPACE);
    const item = new JobCount(
      model,
      trans,
      () => void app.commands.execute(CommandIDs.show)
    );
    statusBar.registerStatusItem(`${NAMESPACE}:status`, {
      item,
      align: 'left',
      rank: 3, // after Lab's own sessions and kernel
      isActive: () => item.active,
      activeStateChanged: item.activeChanged
    });
  }
};
