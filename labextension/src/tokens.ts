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
  /** Show a page of jobs: `{environment, api, group}`, all of them optional. */
  export const openJobs = 'taskapi:open-jobs';
  /** Show a job in the sidebar. */
  export const showJob = 'taskapi:show-job';
  export const openLog = 'taskapi:open-log';
  export const stop = 'taskapi:stop-job';
  export const rerun = 'taskapi:rerun-job';
  /** Show the form of a job's API with the job's config and timeout. */
  export const editRerun = 'taskapi:edit-rerun-job';
  /** Copy the line of Python that submits a job again. */
  export const copyCode = 'taskapi:copy-job-code';
  export const deleteJob = 'taskapi:delete-job';
  export const copyId = 'taskapi:copy-job-id';
  /** Delete all ended jobs, after a question. */
  export const purge = 'taskapi:purge-jobs';
  /** The commands of a group take `IGroupRef`. */
  export const stopGroup = 'taskapi:stop-group';
  /** Submit the configs of its failed jobs as a new group. */
  export const rerunGroup = 'taskapi:rerun-group';
  export const deleteGroup = 'taskapi:delete-group';
  export const copyGroup = 'taskapi:copy-group-id';
  /** Show an API's submit form. */
  export const submit = 'taskapi:submit';
  export const deleteAPI = 'taskapi:delete-api';
  /** Turn desktop notifications on or off; the browser asks for permission. */
  export const desktop = 'taskapi:desktop-notifications';
  /** Make a notebook that deploys an API and submits a job. */
  export const example = 'taskapi:example';
  /** Open one of a job's files, which also takes its `path`. */
  export const openFile = 'taskapi:open-file';
  /** Run a notebook as a job; without a `path`, the one in front. */
  export const runNotebook = 'taskapi:run-notebook';
  /** Show the notebook of a job as it is now, while it runs too. */
  export const openNotebook = 'taskapi:open-notebook';
  export const saveNotebook = 'taskapi:save-notebook';
  /** Open a copy of it on the kernel that the job keeps after a cell failed. */
  export const attach = 'taskapi:attach';
  /** Go on from the cell that failed. */
  export const resume = 'taskapi:resume-job';
  export const endKernel = 'taskapi:end-kernel';
}

/** The ids of widgets, as layouts are restored by them. */
export namespace WidgetIDs {
  export const sidebar = 'taskapi-sidebar';
  export const page = 'taskapi-jobs';
}
