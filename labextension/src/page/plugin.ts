import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ILabShell, ILayoutRestorer } from '@jupyterlab/application';
import {
  ICommandPalette,
  MainAreaWidget,
  WidgetTracker
} from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { CommandIDs, ITaskAPI, NAMESPACE, WidgetIDs } from '../tokens';
import { taskAPIIcon } from '../ui/icon';
import { makeRoom } from '../ui/room';
import { JobsPage } from './page';
import { Choice } from './state';

const KEY = `${NAMESPACE}:columns`;

/** Pages of jobs in the main area. */
export const page: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:page`,
  description: 'Shows jobs as a table in the main area, compares and draws.',
  autoStart: true,
  requires: [ITaskAPI, IRenderMimeRegistry],
  optional: [
    ILabShell,
    ILayoutRestorer,
    ICommandPalette,
    ILauncher,
    IStateDB,
    ITranslator
  ],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    rendermime: IRenderMimeRegistry,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    stateDB: IStateDB | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load(NAMESPACE);
    const { commands, shell, serviceManager } = app;
    const { stream: events } = serviceManager.events;
    const choice = new Choice();
    const pages = new WidgetTracker<MainAreaWidget<JobsPage>>({
      namespace: WidgetIDs.page
    });

    commands.addCommand(CommandIDs.openJobs, {
      label: args =>
        args.isLauncher ? trans.__('Jobs') : trans.__('Open Jobs in Main Area'),
      caption: trans.__('Show jobs as a table: sort, filter, compare and draw'),
      icon: args => (args.isLauncher ? taskAPIIcon : undefined),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            environment: {
              type: 'string',
              description: 'Name of an environment; the one that is chosen.'
            },
            api: { type: 'string', description: 'Only jobs of this API.' },
            group: {
              type: 'string',
              description: 'Only jobs of this group: its id or name.'
            }
          }
        }
      },
      execute: args => {
        const text = (value: unknown) =>
          typeof value === 'string' && value ? value : undefined;
        const environment = text(args.environment) ?? model.environment;
        const group = text(args.group);
        const api = text(args.api);
        let tab = pages.find(
          ({ content: { scope, source } }) =>
            scope.environment === environment &&
            (scope.group === group || (!!group && source.group?.id === group))
        );
        if (!tab) {
          const content = new JobsPage(
            { environment, group },
            { model, commands, rendermime, trans, events, choice }
          );
          tab = new MainAreaWidget({ content });
          tab.id = `${WidgetIDs.page}-${environment}-${group ?? ''}`;
          tab.toolbar.hide();
          content.state.restore(args.view);
          const opened = tab;
          void pages.add(tab);
          content.state.changed.connect(() => void pages.save(opened));
          shell.add(tab, labShell ? 'main' : 'down');
        }
        if (api) {
          tab.content.state.set({ api });
        }
        shell.activateById(tab.id);
        if (args.isLauncher) {
          void commands.execute(CommandIDs.show); // a job's details are shown there
        }
        if (!labShell) {
          const opened = tab;
          requestAnimationFrame(() => makeRoom(opened));
        }
        return tab;
      }
    });

    if (stateDB) {
      void stateDB.fetch(KEY).then(kept => {
        if (typeof kept === 'object' && kept !== null) {
          choice.set(
            Object.fromEntries(
              Object.entries(kept).filter(
                (one): one is [string, boolean] => typeof one[1] === 'boolean'
              )
            )
          );
        }
        choice.changed.connect(() => void stateDB.save(KEY, choice.get()));
      });
    }
    if (restorer && labShell) {
      void restorer.restore(pages, {
        command: CommandIDs.openJobs,
        args: ({ content: { scope, state } }) => ({
          environment: scope.environment,
          group: scope.group ?? '',
          view: state.toJSON()
        }),
        name: ({ content: { scope } }) =>
          `${scope.environment}/${scope.group ?? ''}`
      });
    }
    palette?.addItem({
      command: CommandIDs.openJobs,
      category: trans.__('Task API')
    });
    launcher?.add({
      command: CommandIDs.openJobs,
      args: { isLauncher: true },
      category: trans.__('Other'),
      rank: 10
    });
  }
};
