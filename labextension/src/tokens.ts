import { Token } from '@lumino/coreutils';

import type { TaskAPIModel } from './model/model';

/** The name under which settings, translations and the server extension are found. */
export const NAMESPACE = 'taskapi-jupyter';

/** What all plugins of this extension share: the model that every view shows. */
export const ITaskAPI = new Token<ITaskAPI>(
  `${NAMESPACE}:ITaskAPI`,
  'The task APIs and jobs of this server and its environments.'
);

export type ITaskAPI = TaskAPIModel;

/**
 * The commands. Those of a job take `IJobRef` as arguments; without, they are about the job that is selected in the
 * sidebar. Those of an API take `{environment, api}`.
 */
export namespace CommandIDs {
  /** Show the sidebar. */
  export const show = 'taskapi:show';
  export const refresh = 'taskapi:refresh';
  /** Show a job in the sidebar. */
  export const showJob = 'taskapi:show-job';
  export const openLog = 'taskapi:open-log';
  export const stop = 'taskapi:stop-job';
  export const rerun = 'taskapi:rerun-job';
  export const deleteJob = 'taskapi:delete-job';
  export const copyId = 'taskapi:copy-job-id';
  /** Delete all ended jobs, after a question. */
  export const purge = 'taskapi:purge-jobs';
  /** Show an API's submit form. */
  export const submit = 'taskapi:submit';
  export const deleteAPI = 'taskapi:delete-api';
}

/** The ids of widgets, as layouts are restored by them. */
export namespace WidgetIDs {
  export const sidebar = 'taskapi-sidebar';
}
