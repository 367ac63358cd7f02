import { Printing } from '@jupyterlab/apputils';
import type { IEditorServices } from '@jupyterlab/codeeditor';
import type { DocumentRegistry } from '@jupyterlab/docregistry';
import { Context } from '@jupyterlab/docregistry';
import type { INotebookModel } from '@jupyterlab/notebook';
import {
  NotebookModelFactory,
  NotebookPanel,
  NotebookWidgetFactory,
  StaticNotebook
} from '@jupyterlab/notebook';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { ServiceManager } from '@jupyterlab/services';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import {
  listIcon,
  moveDownIcon,
  notebookIcon,
  ReactWidget,
  saveIcon,
  stopIcon,
  Toolbar
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { IJobRef } from '../api/client';
import { hasEnded, keepsKernel, statusOf } from '../api/contract';
import type { IToolbarButton } from '../log/parts';
import { buttonOf } from '../log/parts';
import type { TaskAPIModel } from '../model/model';
import { CommandIDs } from '../tokens';
import { StatusIcon, statusLabel, useSignal } from '../ui/components';
import { duration, note, took } from '../ui/format';
import { JobDrive } from './drive';
import { KeptKernel } from './kept';
import { LiveNotebook } from './live';
import { copyName } from './paths';

/** What tabs are made from. */
export interface ITabs {
  registry: DocumentRegistry;
  services: ServiceManager.IManager;
  editors: IEditorServices;
  rendermime: IRenderMimeRegistry;
  contentFactory: NotebookPanel.IContentFactory | null;
  drive: JobDrive;
  model: TaskAPIModel;
  commands: CommandRegistry;
  translator: ITranslator;
  trans: TranslationBundle;
}

/** Lab writes the path of a document in front into the page's address, and would open that with a kernel next time. */
class JobContext extends Context<INotebookModel> {
  get path(): string {
    return '';
  }
}

/** Open the notebook of a job as it is now, in Lab's own notebook panel; no kernel is started for it. */
export async function notebookTab(
  ref: IJobRef,
  name: string,
  tabs: ITabs
): Promise<NotebookPanel> {
  const { services, drive, model, trans } = tabs;
  const path = JobDrive.pathOf(ref, copyName(name, ref.id));
  const context = new JobContext({
    manager: services,
    factory: new NotebookModelFactory(),
    path,
    kernelPreference: { shouldStart: false, canStart: false }
  });
  const panel = factoryOf(tabs).createNew(context);
  panel.id = `taskapi-notebook-${ref.environment}-${ref.id}`;
  panel.addClass('jp-TaskAPI-Notebook');
  const { title } = panel; // its label is the file's name, and another one would rename that
  title.caption = trans.__('Notebook of job %1, read-only', ref.id);
  title.icon = notebookIcon;
  title.closable = true;
  // Cells can't be edited, and are not moved either.
  for (const type of ['lm-drop', 'lm-dragenter']) {
    panel.node.addEventListener(type, event => event.stopPropagation(), true);
  }
  Object.assign(panel, { [Printing.symbol]: () => null }); // the server prints files alone
  panel.disposed.connect(() => context.dispose());
  try {
    await context.initialize(false);
  } catch (error) {
    panel.dispose(); // Lab has said why
    throw error;
  }
  const live = new LiveNotebook(ref, panel, model, trans, () =>
    drive.taken(services.contents.localPath(path))
  );
  panel.disposed.connect(() => live.dispose());
  fill(panel, live, tabs);
  return panel;
}

/** Return what makes Lab's notebook panels, with the settings that its own have. */
function factoryOf(tabs: ITabs): NotebookWidgetFactory {
  const { registry, editors, rendermime, contentFactory, translator } = tabs;
  const own = registry.getWidgetFactory('Notebook');
  const { editorConfig, notebookConfig } =
    own instanceof NotebookWidgetFactory
      ? own
      : { editorConfig: undefined, notebookConfig: undefined };
  return new NotebookWidgetFactory({
    name: 'Notebook of a job',
    fileTypes: ['notebook'],
    readOnly: true,
    preferKernel: false,
    canStartKernel: false,
    rendermime,
    contentFactory:
      contentFactory ??
      new NotebookPanel.ContentFactory({
        editorFactory: editors.factoryService.newInlineEditor
      }),
    mimeTypeService: editors.mimeTypeService,
    editorConfig,
    notebookConfig: {
      ...(notebookConfig ?? StaticNotebook.defaultNotebookConfig),
      showEditorForReadOnlyMarkdown: false
    },
    translator
  });
}

/** Fill a tab's toolbar, and the line below it. */
function fill(panel: NotebookPanel, live: LiveNotebook, tabs: ITabs): void {
  const { commands, trans } = tabs;
  const { toolbar } = panel;
  const run = (command: string) => () =>
    void commands.execute(command, { ...live.ref });
  const buttons: [string, IToolbarButton][] = [
    [
      'cell',
      {
        icon: moveDownIcon,
        label: trans.__('Go to running cell'),
        labelNow: () =>
          live.cell?.status === 'running' && live.job && !hasEnded(live.job)
            ? trans.__('Go to running cell')
            : trans.__('Go to failed cell'),
        hidden: () => !live.canGo,
        wordy: true,
        onClick: () => void live.goToCell()
      }
    ],
    [
      'save',
      {
        icon: saveIcon,
        label: trans.__('Save a copy…'),
        onClick: run(CommandIDs.saveNotebook)
      }
    ],
    [
      'log',
      {
        icon: listIcon,
        label: trans.__('Show the log'),
        onClick: run(CommandIDs.openLog)
      }
    ],
    [
      'stop',
      {
        icon: stopIcon,
        label: trans.__('Stop this job'),
        enabled: () => !!live.job && !hasEnded(live.job),
        onClick: run(CommandIDs.stop)
      }
    ]
  ];
  const state = ReactWidget.create(
    <State live={live} commands={commands} trans={trans} />
  );
  state.addClass('jp-TaskAPI-Notebook-state');
  panel.contentHeader.addWidget(state);
  buttons.forEach(([name, button], index) =>
    toolbar.insertItem(index, name, buttonOf(live, button))
  );
  toolbar.insertItem(1, 'space', Toolbar.createSpacerItem());
}

/** The job's status and what there is to say about it. */
function State({
  live,
  commands,
  trans
}: {
  live: LiveNotebook;
  commands: CommandRegistry;
  trans: TranslationBundle;
}): JSX.Element {
  useSignal(live.changed);
  const { job, message } = live;
  const status = job && statusOf(job);
  const words = message || (job ? note(job) : '');
  const span = job && hasEnded(job) ? duration(took(job)) : '';
  return (
    <>
      {status && <StatusIcon status={status} stale={Boolean(job.stale)} />}
      {status && (
        <span role="status">
          {span
            ? trans.__('%1 after %2', statusLabel(status, trans), span)
            : statusLabel(status, trans)}
        </span>
      )}
      <span className="jp-TaskAPI-ellipsis jp-TaskAPI-faint" title={words}>
        {words}
      </span>
      {job && keepsKernel(job) && (
        <KeptKernel ref_={live.ref} commands={commands} trans={trans} />
      )}
    </>
  );
}
