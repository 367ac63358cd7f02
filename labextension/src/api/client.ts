import { ServerConnection } from '@jupyterlab/services';

import { LOCAL } from './contract';
import type {
  API,
  EnvironmentsResponse,
  FilesResponse,
  JobResponse,
  JobSpec,
  JobsPage,
  Message,
  Submission
} from './contract';
import type { IRequest } from './request';
import { requestAPI, urlOf } from './request';

/** Where a job is: the environment, the API it was submitted to, and its id. */
export interface IJobRef {
  environment: string;
  api: string;
  id: string;
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
  status?: readonly string[];
  /** Words that each occur in a job. */
  search?: string;
  limit?: number;
  cursor?: string;
  /** Also count the jobs by status, whatever is searched for. */
  counts?: boolean;
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

  /** Newest first; `next_cursor` of the answer goes on. */
  jobs(environment: string, query: IJobQuery = {}): Promise<JobsPage> {
    const { api, status, search, limit, cursor, counts } = query;
    return this.ask([environment, 'jobs'], {
      query: {
        api,
        status: status?.join(',') || undefined,
        search,
        limit,
        cursor,
        counts: counts ? 'true' : undefined
      }
    });
  }

  job({ environment, api, id }: IJobRef): Promise<JobResponse> {
    return this.ask([environment, 'jobs', id], {
      query: { api: apiOf(environment, api) }
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
      query: { api: apiOf(environment, api) }
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
