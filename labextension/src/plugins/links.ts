import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';

import { CommandIDs, NAMESPACE } from '../tokens';

/** What the kernel writes (`lab_link` in `display/html.py`), and nothing else. */
const PLACE =
  /^#taskapi-job\/([A-Za-z0-9][A-Za-z0-9._-]{0,62})\/(g?[0-9a-f]{16})$/;

/** Return the job or group that a link of an output leads to; null where it is no such link. */
export function linked(
  target: EventTarget | null
): { environment: string; id: string } | null {
  const link = target instanceof Element && target.closest('a.ta-open');
  const found = link && PLACE.exec(link.getAttribute('href') ?? '');
  return found ? { environment: found[1], id: found[2] } : null;
}

/** Opens jobs in the sidebar, and the jobs of groups on a page, where outputs of notebooks link to them. */
export const links: JupyterFrontEndPlugin<void> = {
  id: `${NAMESPACE}:links`,
  description: 'Opens the job or group that an output links to.',
  autoStart: true,
  activate: ({ commands }: JupyterFrontEnd) => {
    document.addEventListener(
      'click',
      event => {
        const found = linked(event.target);
        if (!found) {
          return;
        }
        const { environment, id } = found;
        const [command, args] = id.startsWith('g')
          ? [CommandIDs.openJobs, { environment, group: id }]
          : [CommandIDs.showJob, { environment, id }];
        if (commands.hasCommand(command)) {
          event.preventDefault();
          event.stopPropagation();
          void commands.execute(command, args);
        }
      },
      true // before Lab follows the link within the notebook
    );
  }
};
