import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ILabShell, ILayoutRestorer } from '@jupyterlab/application';
import { ICommandPalette, WidgetTracker } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import type { IJobRef } from '../api/client';
import { attempt } from '../commands';
import { argsOf, jobOf } from '../targets';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { taskAPIIcon } from '../ui/icon';
import { makeRoom } from '../ui/room';
import { addNotebookCommands } from './commands';
import { JobDrive } from './drive';
import { newExample } from './example';
import { notebookOf, Runner } from './run';
import type { ITabs } from './tab';
import { notebookTab } from './tab';

/** Runs notebooks as jobs. */
const run: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:run-notebook`,
  description: 'Runs notebooks as jobs.',
  autoStart: true,
  requires: [ITaskAPI],
  optional: [
    INotebookTracker,
    IFileBrowserFactory,
    ICommandPalette,
    IStateDB,
    ITranslator
  ],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    tracker: INotebookTracker | null,
    browsers: IFileBrowserFactory | null,
    palette: ICommandPalette | null,
    stateDB: IStateDB | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load(NAMESPACE);
    const { commands, serviceManager } = app;
    const runner = new Runner(model, serviceManager, tracker, stateDB, trans);
    commands.addCommand(CommandIDs.runNotebook, {
      label: trans.__('Run as Job…'),
      caption: trans.__('Run this notebook as a job, beside its kernel'),
      icon: taskAPIIcon,
      describedBy: argsOf('path', 'selected'),
      isEnabled: args => notebookOf(args, { tracker, browsers }) !== null,
      execute: args => {
        const path = notebookOf(args, { tracker, browsers });
        return attempt(async () => {
          const made = path && (await runner.run(path));
          if (made) {
            const isJob = 'id' in made;
            const { showJob, showSchedule } = CommandIDs;
            await commands.execute(isJob ? showJob : showSchedule, { ...made });
          }
        });
      }
    });
    commands.addCommand(CommandIDs.example, {
      label: trans.__('New Notebook with an Example of a Job'),
      caption: trans.__('Deploy a task API and submit a job, step by step'),
      icon: args => (args.isPalette ? undefined : taskAPIIcon),
      describedBy: argsOf(),
      execute: () =>
        attempt(async () => {
          const folder = browsers?.tracker.currentWidget?.model.path;
          const path = await newExample(serviceManager, folder, trans);
          await commands.execute('docmanager:open', { path });
        })
    });
    tracker?.currentChanged.connect(() =>
      commands.notifyCommandChanged(CommandIDs.runNotebook)
    );
    palette?.addItem({
      command: CommandIDs.runNotebook,
      category: trans.__('Task API')
    });
    palette?.addItem({
      command: CommandIDs.example,
      args: { isPalette: true },
      category: trans.__('Task API')
    });
  }
};

/** Shows the notebooks of jobs while they run, each in a tab. */
const tabs: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:notebook`,
  description: 'Shows the notebooks of jobs while they run.',
  autoStart: true,
  requires: [ITaskAPI, IEditorServices, IRenderMimeRegistry],
  optional: [
    NotebookPanel.IContentFactory,
    ILabShell,
    ILayoutRestorer,
    ICommandPalette,
    ITranslator
  ],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    editors: IEditorServices,
    rendermime: IRenderMimeRegistry,
    contentFactory: NotebookPanel.IContentFactory | null,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ) => {
    translator ??= nullTranslator;
    const trans = translator.load(NAMESPACE);
    const { commands, serviceManager: services, docRegistry, shell } = app;
    const drive = new JobDrive(model.client);
    services.contents.addDrive(drive);
    if (labShell) {
      // A page of Notebook 7 shows one document: there files are downloaded.
      commands.addCommand(CommandIDs.openFile, {
        label: trans.__('Open File of Job'),
        caption: trans.__('Show one of a job’s files, which can’t be changed'),
        describedBy: argsOf('environment', 'api', 'id', 'path'),
        isEnabled: ({ path }) =>
          typeof path === 'string' &&
          !path.endsWith('.ipynb') && // which would have a kernel started
          docRegistry.getFileTypesForPath(path).length > 0,
        execute: args => {
          const ref = jobOf(args, model);
          return (
            ref &&
            commands.execute('docmanager:open', {
              path: JobDrive.fileOf(ref, String(args.path))
            })
          );
        }
      });
    }
    const tracker = new WidgetTracker<NotebookPanel>({
      namespace: 'taskapi-notebook'
    });
    const shown = new Map<NotebookPanel, IJobRef>();
    const options: ITabs = {
      ...{ registry: docRegistry, services, editors, rendermime },
      ...{ contentFactory, drive, model, commands, translator, trans }
    };
    addNotebookCommands(
      app,
      model,
      async (ref, name) => {
        const isSame = (panel: NotebookPanel) => {
          const other = shown.get(panel);
          return other?.id === ref.id && other.environment === ref.environment;
        };
        let panel = tracker.find(isSame);
        if (!panel) {
          panel = await notebookTab(ref, name, options);
          shown.set(panel, ref);
          panel.disposed.connect(one => shown.delete(one));
          shell.add(panel, labShell ? 'main' : 'down');
          void tracker.add(panel);
        }
        shell.activateById(panel.id);
        if (!labShell) {
          const tab = panel;
          requestAnimationFrame(() => makeRoom(tab)); // once it is shown
        }
      },
      trans
    );
    for (const command of [
      CommandIDs.openNotebook,
      CommandIDs.saveNotebook,
      CommandIDs.attach,
      CommandIDs.resume,
      CommandIDs.endKernel
    ]) {
      palette?.addItem({ command, category: trans.__('Task API') });
    }
    if (restorer && labShell) {
      void restorer.restore(tracker, {
        command: CommandIDs.openNotebook,
        args: panel => ({ ...shown.get(panel) }),
        name: panel => {
          const { environment, id } = shown.get(panel)!;
          return `${environment}/${id}`;
        }
      });
    }
  }
};

export const notebooks = [run, tabs];
