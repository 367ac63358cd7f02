import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ILayoutRestorer } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { addCommands } from '../commands';
import { ITaskAPI, NAMESPACE, WidgetIDs } from '../tokens';
import { Sidebar } from '.';
import { addGroupCommands } from './groupcommands';
import { addScheduleCommands } from './schedulecommands';

/** The sidebar, and the commands that act on what it shows. */
export const sidebar: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:plugin`,
  description: 'Lists task APIs and jobs in the left sidebar.',
  autoStart: true,
  requires: [ITaskAPI, IEditorServices, IRenderMimeRegistry],
  optional: [ITranslator, ICommandPalette, ILayoutRestorer, IStateDB],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    editors: IEditorServices,
    rendermime: IRenderMimeRegistry,
    translator: ITranslator | null,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    stateDB: IStateDB | null
  ) => {
    translator ??= nullTranslator;
    const trans = translator.load(NAMESPACE);
    const { commands } = app;
    const widget = new Sidebar({
      ...{ model, commands, editors, rendermime, translator, trans }
    });
    app.shell.add(widget, 'left', { rank: 600, type: 'Task API' });
    const show = () => app.shell.activateById(widget.id);
    addCommands(
      app,
      model,
      {
        show,
        showJob: ref => {
          show();
          widget.showJob(ref);
        },
        openSubmit: (environment, api, draft) => {
          show();
          widget.openSubmit(environment, api, draft);
        }
      },
      trans,
      palette
    );
    addGroupCommands(commands, model, trans);
    addScheduleCommands(
      commands,
      model,
      editors,
      {
        showSchedule: ref => {
          show();
          widget.showSchedule(ref);
        },
        showJobsOf: ref => {
          show();
          widget.showJobsOf(ref);
        }
      },
      trans,
      palette
    );
    restorer?.add(widget, WidgetIDs.sidebar);
    if (stateDB) {
      keep(widget, model, stateDB, app.restored);
    }
  }
};

const KEY = `${NAMESPACE}:sidebar`;

/** Keep what was chosen over a reload. */
function keep(
  widget: Sidebar,
  model: ITaskAPI,
  stateDB: IStateDB,
  restored: Promise<void>
): void {
  void Promise.all([stateDB.fetch(KEY), restored]).then(([kept]) => {
    const { view, environment, selected } = (kept ?? {}) as {
      [key: string]: unknown;
    };
    widget.state.restore(view);
    widget.restoreSections();
    if (typeof environment === 'string') {
      model.environment = environment;
    }
    if (typeof environment === 'string' && typeof selected === 'string') {
      widget.showJob({ environment: model.environment, api: '', id: selected });
    }
    let last = '';
    const save = () => {
      const selected = model.selected?.job_id ?? null;
      const value = {
        view: widget.state.toJSON(),
        environment:
          model.isChosen || selected !== null ? model.environment : null,
        selected
      };
      const text = JSON.stringify(value);
      if (text !== last) {
        last = text;
        void stateDB.save(KEY, value);
      }
    };
    widget.state.changed.connect(save);
    model.changed.connect(save);
  });
}
