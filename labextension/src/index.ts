import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';

import { TaskAPIClient } from './api/client';
import { log } from './log/plugin';
import { TaskAPIModel } from './model/model';
import { notebooks } from './notebook/plugin';
import { page } from './page/plugin';
import { links } from './plugins/links';
import { notifications } from './plugins/notifications';
import { running } from './plugins/running';
import { status } from './plugins/status';
import { sidebar } from './sidebar/plugin';
import { ITaskAPI, NAMESPACE } from './tokens';

/** The model that every view shows. */
const model: JupyterFrontEndPlugin<ITaskAPI> = {
  id: `${NAMESPACE}:model`,
  description:
    'Knows the task APIs and jobs of this server and its environments.',
  autoStart: true,
  provides: ITaskAPI,
  activate: (app: JupyterFrontEnd) => {
    const { serviceManager } = app;
    const client = new TaskAPIClient(serviceManager.serverSettings);
    const taskAPI = new TaskAPIModel(client, serviceManager.events.stream);
    void app.restored.then(() => taskAPI.start());
    return taskAPI;
  }
};

export default [
  model,
  sidebar,
  log,
  page,
  ...notebooks,
  status,
  running,
  links,
  notifications
];
