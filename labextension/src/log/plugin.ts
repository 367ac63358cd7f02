import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ILabShell, ILayoutRestorer } from '@jupyterlab/application';
import { MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { listIcon } from '@jupyterlab/ui-components';

import type { IJobRef } from '../api/client';
import { argsOf, jobOf, POINTED } from '../targets';
import { CommandIDs, ITaskAPI, NAMESPACE } from '../tokens';
import { makeRoom } from '../ui/room';
import { logTab, LogView } from './view';

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
      describedBy: argsOf('environment', 'api', 'id', 'pinned', POINTED),
      isEnabled: args => jobOf(args, model) !== null,
      execute: args => {
        const ref = jobOf(args, model);
        if (!ref) {
          return;
        }
        let tab = tabs.find(({ content }) => isSame(content.ref, ref));
        if (!tab) {
          const { pinned } = args;
          tab = logTab(new LogView(ref, model, commands, trans));
          tab.content.pinned = pinned === true;
          const saved = tab;
          tab.content.pinnedChanged.connect(() => void tabs.save(saved));
          // One that is restored takes no other's place: each is where it was.
          const other =
            pinned === undefined
              ? tabs.find(({ content }) => !content.pinned)
              : undefined;
          void tabs.add(tab);
          // A notebook of Notebook 7 has room for one widget alone, and a panel below it.
          shell.add(
            tab,
            labShell ? 'main' : 'down',
            other && labShell ? { ref: other.id, mode: 'tab-after' } : {}
          );
          other?.dispose();
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
        args: ({ content: { ref, pinned } }) => ({ ...ref, pinned }),
        name: ({ content: { ref } }) => `${ref.environment}/${ref.id}`
      });
    }
  }
};

function isSame(one: IJobRef, other: IJobRef): boolean {
  return one.id === other.id && one.environment === other.environment;
}
