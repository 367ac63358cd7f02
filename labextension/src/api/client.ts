import type { INotebookContent } from '@jupyterlab/nbformat';
import { ServerConnection } from '@jupyterlab/services';

import { LOCAL } from './contract';
import type {
  API,
  DeployRequest,
  DeployResult,
  EnvironmentsResponse,
  FilesResponse,
  GroupResponse,
  GroupsPage,
  GroupSubmitted,
  JobResponse,
  JobSpec,
  JobsPage,
  KeptKernel,
  KernelsResponse,
  Message,
  MetricsResponse,
  NotebookChanges,
  PackagesResponse,
  PreviewResponse,
  Schedule,
  SchedulePreview,
  ScheduleRequest,
  NotificationsResponse,
  SchedulesResponse,
  Submission,
  UsageResponse,
  WaitsResponse
} from './contract';
import type { IRequest } from './request';
import { requestAPI, urlOf } from './request';

/** Where a job is: the environment, the API it was submitted to, and its id. */
export interface IJobRef {
  environment: string;
  api: string;
  id: string;
}

/** Where a group is. */
export interface IGroupRef {
  environment: string;
  /** Its id. */
  group: string;
}

/** Where a schedule is. */
export interface IScheduleRef {
  environment: string;
  /** Its name. */
  schedule: string;
}

/** What is asked of when a schedule fires. */
export interface IPreviewQuery {
  /** As in a request: cron, `every 15m`, `at 2026-12-24T18:00`. */
  schedule: string;
  /** Absent: the server's. */
  timezone?: string;
  until?: string;
  /** How many times. */
  count: number;
}

/**
 * Part of a job's log. Offsets count the bytes that the task wrote; `next` goes on.
 */
export interface ILogChunk {
  data: Uint8Array;
  offset: number;
  next: number;
  size: number;
}

/** Which jobs a list is to have. */
export interface IJobQuery {
  api?: string;
  /** Of a group, all attempts of its jobs, the last job first. */
  group?: string;
  /** Submitted by the schedule of this name. */
  schedule?: string;
  /** These jobs alone, with their whole configs; no other filter goes with it. */
  ids?: readonly string[];
  /** Also read what is scalar in small results. */
  results?: boolean;
  status?: readonly string[];
  /** Words that each occur in a job. */
  search?: string;
  limit?: number;
  cursor?: string;
  /** Also count the jobs by status, whatever is searched for. */
  counts?: boolean;
  /** A group is one entry: its jobs are left out. */
  groups?: 'closed';
}

const JSON_BODY: RequestInit = {
  headers: { 'Content-Type': 'application/json' }
};

/** The contract's verbs, over HTTP. Every method throws `APIError` or `Unreachable`. */
export class TaskAPIClient {
  constructor(readonly settings = ServerConnection.makeSettings()) {}

  environments(): Promise<EnvironmentsResponse> {
    return this.ask(['environments']);
  }

  apis(environment: string): Promise<API[]> {
    return this.ask([environment, 'get']);
  }

  /** One API, with the Python that runs it. */
  async api(environment: string, name: string): Promise<API> {
    const [api] = await this.ask<API[]>([environment, 'get', name]);
    return api;
  }

  /** The kernelspecs that the server finds, and which of them can't be started. */
  kernels(environment: string): Promise<KernelsResponse> {
    return this.ask([environment, 'kernels']);
  }

  /** The environments that were built from requirements. */
  packages(environment: string): Promise<PackagesResponse> {
    return this.ask([environment, 'packages']);
  }

  /** Newest first; `next_cursor` of the answer goes on. */
  jobs(environment: string, query: IJobQuery = {}): Promise<JobsPage> {
    const { api, group, status, search, limit, cursor, counts, groups } = query;
    const { ids, results, schedule } = query;
    return this.ask([environment, 'jobs'], {
      query: {
        api,
        group,
        schedule,
        status: status?.join(',') || undefined,
        search,
        limit,
        cursor,
        counts: counts ? 'true' : undefined,
        ids: ids?.join(','),
        results: results ? 'true' : undefined,
        groups
      }
    });
  }

  /** A group, and a page of its jobs in the order of their index; the cursor is the index before them. */
  group(
    { environment, group }: IGroupRef,
    { status, search, limit, cursor }: IJobQuery = {}
  ): Promise<GroupResponse> {
    return this.ask([environment, 'groups', group], {
      query: {
        status: status?.join(',') || undefined,
        search,
        limit,
        cursor
      }
    });
  }

  /** Answered once nothing of any of its jobs is left. */
  stopGroup({ environment, group }: IGroupRef): Promise<Message> {
    return this.ask([environment, 'groups', group], {
      init: { method: 'DELETE' }
    });
  }

  /** Submit the configs of a group's failed jobs again, as a new group. */
  rerunGroup({ environment, group }: IGroupRef): Promise<GroupSubmitted> {
    return this.ask([environment, 'groups', group, 'rerun'], {
      init: { ...JSON_BODY, method: 'POST', body: '{}' }
    });
  }

  /** Delete an ended group with its jobs. */
  forgetGroup({ environment, group }: IGroupRef): Promise<Message> {
    return this.ask([environment, 'groups', group], {
      query: { forget: 'true' },
      init: { method: 'DELETE' }
    });
  }

  job({ environment, api, id }: IJobRef): Promise<JobResponse> {
    return this.ask([environment, 'jobs', id], {
      query: { api: apiOf(environment, api) }
    });
  }

  /** What the task has recorded since `next` of an earlier answer; 0: from the beginning. */
  metrics(
    { environment, id }: IJobRef,
    since: number,
    signal?: AbortSignal
  ): Promise<MetricsResponse> {
    return this.ask([environment, 'jobs', id, 'metrics'], {
      query: { since },
      init: { signal }
    });
  }

  /** The newest groups. */
  groups(environment: string): Promise<GroupsPage> {
    return this.ask([environment, 'groups'], { query: { limit: 100 } });
  }

  /** All schedules, by name; an `APIError` where there are none ever. */
  schedules(environment: string): Promise<SchedulesResponse> {
    return this.ask([environment, 'schedules']);
  }

  /** The names that config.yaml has for notifications. */
  notifications(environment: string): Promise<NotificationsResponse> {
    return this.ask([environment, 'notifications'], { query: { limit: 1 } });
  }

  /** How a schedule reads, and when it would fire next. */
  previewSchedule(
    environment: string,
    { schedule, timezone, until, count }: IPreviewQuery
  ): Promise<SchedulePreview> {
    return this.ask([environment, 'schedules', 'preview'], {
      query: { cron: schedule, tz: timezone || undefined, n: count, until }
    });
  }

  createSchedule(
    environment: string,
    request: Partial<ScheduleRequest>
  ): Promise<Schedule> {
    return this.ask([environment, 'schedules'], {
      init: { ...JSON_BODY, method: 'POST', body: JSON.stringify(request) }
    });
  }

  /** Change what is given of a schedule. */
  updateSchedule(
    { environment, schedule }: IScheduleRef,
    changes: Partial<ScheduleRequest>
  ): Promise<Schedule> {
    return this.ask([environment, 'schedules', schedule], {
      init: { ...JSON_BODY, method: 'PATCH', body: JSON.stringify(changes) }
    });
  }

  /** Its jobs stay. */
  deleteSchedule({ environment, schedule }: IScheduleRef): Promise<Message> {
    return this.ask([environment, 'schedules', schedule], {
      init: { method: 'DELETE' }
    });
  }

  /** Submit a job of a schedule now. */
  runSchedule({ environment, schedule }: IScheduleRef): Promise<JobSpec> {
    return this.ask([environment, 'schedules', schedule, 'run'], {
      init: { ...JSON_BODY, method: 'POST', body: '{}' }
    });
  }

  submit(
    environment: string,
    api: string,
    submission: Partial<Submission>
  ): Promise<JobSpec> {
    return this.ask([environment, 'tasks', api], {
      init: { ...JSON_BODY, method: 'POST', body: JSON.stringify(submission) }
    });
  }

  /** The answer has a result for each API; an error is thrown. */
  deploy(
    environment: string,
    request: Partial<DeployRequest>
  ): Promise<DeployResult[]> {
    return this.ask([environment, 'deploy'], {
      init: { ...JSON_BODY, method: 'POST', body: JSON.stringify(request) }
    });
  }

  /** What a deploy would do, which is not done: the answer's `plan` and warnings. An older server would deploy. */
  async plan(
    environment: string,
    request: Partial<DeployRequest>
  ): Promise<DeployResult> {
    const asked = { ...request, dry_run: true };
    const [result] = await this.deploy(environment, asked);
    return result;
  }

  rerun({ environment, api, id }: IJobRef): Promise<JobSpec> {
    return this.ask([environment, 'jobs', id, 'rerun'], {
      query: { api: apiOf(environment, api) },
      init: { ...JSON_BODY, method: 'POST', body: '{}' }
    });
  }

  /** Answered once nothing of the job is left. */
  stop({ environment, api, id }: IJobRef): Promise<Message> {
    return this.ask([environment, 'tasks', api], {
      query: { jobID: id },
      init: { method: 'DELETE' }
    });
  }

  /** Delete an ended job with its log, result and files. */
  forget({ environment, id }: IJobRef): Promise<Message> {
    return this.ask([environment, 'jobs', id], { init: { method: 'DELETE' } });
  }

  /** Delete all ended jobs, or those of one API. */
  purge(environment: string, api?: string): Promise<Message> {
    return this.ask([environment, 'jobs'], {
      query: { api },
      init: { method: 'DELETE' }
    });
  }

  deleteAPI(environment: string, api: string): Promise<Message> {
    return this.ask([environment, 'delete', api], {
      init: { method: 'DELETE' }
    });
  }

  /** A negative offset counts from the end. */
  log(
    { environment, api, id }: IJobRef,
    offset: number,
    limit: number,
    signal?: AbortSignal
  ): Promise<ILogChunk> {
    return this.ask([environment, 'jobs', id, 'log'], {
      query: { offset, limit, api: apiOf(environment, api) },
      init: { signal },
      read: async response => {
        const header = (name: string) => Number(response.headers.get(name));
        return {
          data: new Uint8Array(await response.arrayBuffer()),
          offset: header('X-Log-Offset'),
          next: header('X-Log-Next'),
          size: header('X-Log-Size')
        };
      }
    });
  }

  /** The JSON value; an `APIError` with status 406 where the result is a pickle. */
  result({ environment, api, id }: IJobRef): Promise<unknown> {
    return this.ask([environment, 'jobs', id, 'result'], {
      query: { api: apiOf(environment, api) },
      init: { headers: { Accept: 'application/json' } }
    });
  }

  files({ environment, api, id }: IJobRef): Promise<FilesResponse> {
    return this.ask([environment, 'jobs', id, 'files'], {
      query: { api: apiOf(environment, api) }
    });
  }

  file({ environment, id }: IJobRef, path: string): Promise<Blob> {
    return this.ask([environment, 'jobs', id, 'files', ...path.split('/')], {
      read: response => response.blob()
    });
  }

  /** What a pickled result looks like, by media type; it is not to be trusted. */
  preview({ environment, id }: IJobRef): Promise<PreviewResponse> {
    return this.ask([environment, 'jobs', id, 'preview']);
  }

  /** CPU time and memory over time. */
  usage({ environment, id }: IJobRef): Promise<UsageResponse> {
    return this.ask([environment, 'jobs', id, 'usage']);
  }

  /** Those of some jobs and groups that a cell waits for. */
  waits(environment: string, ids: readonly string[]): Promise<WaitsResponse> {
    return this.ask([environment, 'waits'], { query: { ids: ids.join(',') } });
  }

  /** The notebook that a job runs, as it was last saved, and its version. */
  notebook({
    environment,
    id
  }: IJobRef): Promise<{ content: INotebookContent; version: string }> {
    return this.ask([environment, 'jobs', id, 'notebook'], {
      read: async response => ({
        content: (await response.json()) as INotebookContent,
        version: /"(.*)"/.exec(response.headers.get('ETag') ?? '')?.[1] ?? ''
      })
    });
  }

  /** The cells of it that have changed since a version; all of them since none, or one that the server forgot. */
  changes(
    { environment, id }: IJobRef,
    since: string
  ): Promise<NotebookChanges> {
    return this.ask([environment, 'jobs', id, 'notebook'], {
      query: { since: since || 'none' }
    });
  }

  notebookURL({ environment, id }: IJobRef): string {
    return urlOf(this.settings, [environment, 'jobs', id, 'notebook']);
  }

  fileURL({ environment, id }: IJobRef, path: string): string {
    const parts = path.split('/');
    return urlOf(this.settings, [environment, 'jobs', id, 'files', ...parts]);
  }

  /** The kernel that a job keeps after a cell of its notebook failed. */
  kernel({ environment, id }: IJobRef): Promise<KeptKernel> {
    return this.ask([environment, 'jobs', id, 'kernel']);
  }

  /** Have a job go on in the kernel that it keeps, or end that kernel. */
  askKernel(
    { environment, id }: IJobRef,
    what: 'resume' | 'end-kernel'
  ): Promise<Message> {
    return this.ask([environment, 'jobs', id, what], {
      init: { ...JSON_BODY, method: 'POST', body: '{}' }
    });
  }

  /** The URL that an API's jobs are submitted to, through this server; it carries no token. */
  endpoint(environment: string, api: string): string {
    return new URL(
      urlOf(this.settings, [environment, 'tasks', api]),
      window.location.href
    ).href;
  }

  private ask<T>(path: readonly string[], request?: IRequest<T>): Promise<T> {
    return requestAPI(this.settings, path, request);
  }
}

/** A cluster finds a job by its API; this machine knows it by its id, even when its API is gone. */
function apiOf(environment: string, api: string): string | undefined {
  return environment === LOCAL || !api ? undefined : api;
}
