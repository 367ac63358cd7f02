/**
 * The contract's types, generated from the server's OpenAPI document (`npm run contract`).
 */
import type {
  Api as API,
  GroupStatus as Group,
  JobStatus as Job
} from './contract.gen';

export type {
  Api as API,
  BuiltEnvironment,
  Cell,
  DeployPlan,
  DeployRequest,
  DeployResult,
  Environment,
  EnvironmentsResponse,
  FileEntry,
  FilesResponse,
  GroupResponse,
  GroupStatus as Group,
  GroupsPage,
  GroupSubmitted,
  Interpreter,
  JobResponse,
  JobSpec,
  JobsPage,
  JobStatus as Job,
  KeptKernel,
  KernelEntry,
  KernelsResponse,
  Message,
  MetricsResponse,
  NotebookChanges,
  PackagesResponse,
  PreviewResponse,
  Progress,
  SchedulePreview,
  ScheduleRequest,
  SchedulesResponse,
  NotificationsResponse,
  ScheduleStatus as Schedule,
  Submission,
  UsageResponse,
  WaitsResponse
} from './contract.gen';

/** The environment of the machine that the Jupyter server runs on. */
export const LOCAL = 'local';

/** The schema of events about jobs. */
export const JOB_EVENTS = 'https://events.jupyter.org/taskapi_jupyter/job/v1';

/** The schema of events about deployed and deleted APIs. */
export const API_EVENTS = 'https://events.jupyter.org/taskapi_jupyter/api/v1';

/** The schema of events about schedules. */
export const SCHEDULE_EVENTS =
  'https://events.jupyter.org/taskapi_jupyter/schedule/v1';

/** The states of a job, in the order in which they are listed. */
export const STATUSES = [
  'running',
  'pending',
  'succeeded',
  'worker_error',
  'worker_oom',
  'timed_out',
  'stopped',
  'unexpected_error'
] as const;

export type Status = (typeof STATUSES)[number];

/** The states of a job that has not ended. */
export const IN_PROGRESS: readonly string[] = ['pending', 'running'];

/** A cluster's own words for these states. */
const OTHER_WORDS: { [word: string]: Status } = {
  enqueuing: 'pending',
  completed_with_failures: 'worker_error',
  enqueue_failed: 'unexpected_error'
};

/** Return a job's state in this project's words; what is not known stays as it is. */
export function statusOf(job: Pick<Job, 'status'>): string {
  const word = job.status.replace(/^status_/, '');
  return OTHER_WORDS[word] ?? word;
}

/** Whether a job has ended. */
export function hasEnded(job: Pick<Job, 'status' | 'end_time'>): boolean {
  const status = statusOf(job);
  return (
    !IN_PROGRESS.includes(status) &&
    ((STATUSES as readonly string[]).includes(status) || !!job.end_time)
  );
}

/** How many jobs of a group are in each of five kinds of states; all but two of them are one kind of failure. */
export interface ITally {
  pending: number;
  running: number;
  succeeded: number;
  failed: number;
  stopped: number;
}

/** Count a group's jobs, each by its last attempt. */
export function tallyOf(group: Pick<Group, 'counts'>): ITally {
  const tally = { pending: 0, running: 0, succeeded: 0, failed: 0, stopped: 0 };
  for (const [word, count] of Object.entries(group.counts)) {
    const status = statusOf({ status: word });
    tally[status in tally ? (status as keyof ITally) : 'failed'] += count;
  }
  return tally;
}

/** How many jobs of a group are pending or running. */
export function goingOf(group: Pick<Group, 'counts'>): number {
  const { pending, running } = tallyOf(group);
  return pending + running;
}

/** Whether a job holds the kernel of its notebook after a cell failed. */
export function keepsKernel(job: Job): boolean {
  return job.cell?.status === 'failed' && statusOf(job) === 'running';
}

/** Return an API's name, from whichever part the server sent. */
export function nameOf(api: API): string {
  return api.metadata?.name ?? String(api.spec?.name ?? '');
}

/** A parameter of a task that is called with more than its config; `**name` stands for any others. */
export interface IParameter {
  name: string;
  required?: boolean;
  default?: unknown;
  type?: string;
  help?: string;
}

interface IDefinition {
  path?: unknown;
  config?: { [key: string]: unknown } | null;
  parameters?: unknown;
  kernel?: unknown;
  requirements?: unknown;
}

/** Return the definition of an API, empty where it has none. */
export function definitionOf(api: Pick<API, 'spec'>): IDefinition {
  return (api.spec?.definition as IDefinition | null | undefined) ?? {};
}

/** Return the parameters of an API's task, null where it takes its config whole or does not say. */
export function parametersOf(api: Pick<API, 'spec'>): IParameter[] | null {
  const { parameters } = definitionOf(api);
  return Array.isArray(parameters)
    ? parameters.filter(one => typeof one?.name === 'string')
    : null;
}
