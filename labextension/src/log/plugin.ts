import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ILabShell, ILayoutRestorer } from '@jupyterlab/application';
import { MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { listIcon } from '@jupyterlab/ui-components';
import type { Widget } from '@lumino/widgets';
import { SplitPanel } from '@lumino/widgets';

import type { IJobRef } from '../api/client';
import { argsOf, jobOf, POINTED } from '../targets';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { logTab, LogView } from './view';

/** Pixels of a panel's height that are too few for a log. */
const LOW = 200;

/** Logs of jobs, each in a tab. */
export const log: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:log`,
  description: 'Shows the logs of jobs as they grow.',
  autoStart: true,
  requires: [ITaskAPI],
  optional: [ILabShell, ILayoutRestorer, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: ITaskAPI,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load(NAMESPACE);
    const { commands, shell } = app;
    const tabs = new WidgetTracker<MainAreaWidget<LogView>>({
      namespace: 'taskapi-log'
    });

    commands.addCommand(CommandIDs.openLog, {
      label: trans.__('Show Log'),
      caption: trans.__('Show a job’s output as it is written'),
      icon: listIcon,
      describedBy: argsOf('environment', 'api', 'id', POINTED),
      isEnabled: args => jobOf(args, model) !== null,
      execute: args => {
        const ref = jobOf(args, model);
        if (!ref) {
          return;
        }
        let tab = tabs.find(({ content }) => isSame(content.ref, ref));
        if (!tab) {
          tab = logTab(new LogView(ref, model, commands, trans));
          void tabs.add(tab);
          // A notebook of Notebook 7 has room for one widget alone, and a panel below it.
          shell.add(tab, labShell ? 'main' : 'down');
        }
        shell.activateById(tab.id);
        if (!labShell) {
          requestAnimationFrame(() => makeRoom(tab)); // once it is shown
        }
      }
    });

    if (restorer && labShell) {
      void restorer.restore(tabs, {
        command: CommandIDs.openLog,
        args: ({ content }) => ({ ...content.ref }),
        name: ({ content: { ref } }) => `${ref.environment}/${ref.id}`
      });
    }
  }
};

/** Give the panel that a tab is in a good part of the page, where it has next to nothing. */
function makeRoom(tab: Widget): void {
  let panel: Widget | null = tab;
  while (panel && !(panel.parent instanceof SplitPanel)) {
    panel = panel.parent;
  }
  if (panel && panel.node.clientHeight < LOW) {
    (panel.parent as SplitPanel).setRelativeSizes([3, 2]);
  }
}

function isSame(one: IJobRef, other: IJobRef): boolean {
  return one.id === other.id && one.environment === other.environment;
}
