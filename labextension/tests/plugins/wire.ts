import type { Event } from '@jupyterlab/services';
import { ServerConnection } from '@jupyterlab/services';
import { Stream } from '@lumino/signaling';
import { afterEach } from 'vitest';

import { TaskAPIClient } from '../../src/api/client';
import type { Group, Job, Schedule } from '../../src/api/contract';
import { hasEnded, JOB_EVENTS, SCHEDULE_EVENTS } from '../../src/api/contract';
import { TaskAPIModel } from '../../src/model/model';

const PAGE = 'http://localhost:3000/user/me/';

const models: TaskAPIModel[] = [];
afterEach(() => models.splice(0).forEach(model => model.dispose()));

/** What a server keeps, and answers at the wire. */
export class Wire {
  /** Jobs by environment. */
  readonly jobs: { [environment: string]: Job[] } = { local: [] };
  readonly apis = ['train', 'other'];
  /** The groups of this machine, whose jobs are in `jobs` only where a test adds them. */
  groups: Group[] = [];
  /** The schedules of this machine; null: an older server, which has no such route. */
  schedules: Schedule[] | null = null;
  /** The names of config.yaml's notifications. */
  names: { name: string; problem?: string; switched_off?: string }[] = [];
  /** The bodies of requests, in order. */
  readonly bodies: unknown[] = [];
  /** The environment that is used where none is named. */
  first = 'local';
  /** What was asked for beside GET, as `METHOD path?query`. */
  readonly asked: string[] = [];
  /** Answers instead of the usual ones, by the beginning of `METHOD path`. */
  readonly refusals: { [request: string]: [number, string, string] } = {};
  /** The server's time, as its answers say it. */
  now = '';
  /** What cells wait for. */
  readonly waited: string[] = [];
  /** Whether the server is away. */
  away = false;
  /** What requests wait for. */
  gate: Promise<void> = Promise.resolve();

  /** Return a model of its own, as a tab has; `load()` is its first look. */
  tab(): Tab {
    const events = new Stream<unknown, Event.Emission>(this);
    const settings = ServerConnection.makeSettings({
      baseUrl: PAGE,
      fetch: (request: RequestInfo | URL) => this.answer(request as Request)
    });
    const model = new TaskAPIModel(new TaskAPIClient(settings), events);
    models.push(model);
    const told = (id: string, status: string, group?: string) =>
      events.emit({
        schema_id: JOB_EVENTS,
        job_id: id,
        status,
        group
      } as unknown as Event.Emission);
    const toldOfSchedules = () =>
      events.emit({
        schema_id: SCHEDULE_EVENTS
      } as unknown as Event.Emission);
    return { model, told, toldOfSchedules };
  }

  /** Add a job; ids descend with time, as the server's do. */
  add(fields: Partial<Job> & { environment?: string } = {}): Job {
    const { environment = 'local', ...rest } = fields;
    const jobs = (this.jobs[environment] ??= []);
    const id = (0xffff_ffff - this._count).toString(16).padStart(16, '0');
    this._count += 1;
    const job = {
      job_id: id,
      api_name: 'train',
      kind: 'TaskAPI',
      workers: 1,
      config: {},
      api_id: '1',
      timeout: null,
      status: 'running',
      created_time: '2026-03-04T05:00:00Z',
      start_time: '2026-03-04T05:00:00Z',
      ...rest
    } as Job;
    jobs.unshift(job);
    return job;
  }

  /** Add a group, of a number of jobs in each state. */
  addGroup(fields: Partial<Group> = {}): Group {
    const { counts = { running: 1 } } = fields;
    const id = (0xffff_ffff - this._count).toString(16).padStart(16, '0');
    const group = {
      id: `g${id}`,
      api_name: 'train',
      name: `g<b>${this.groups.length + 1}</b>`,
      created_time: '2026-03-04T05:00:00Z',
      size: Object.values(counts).reduce((a, b) => a + b, 0),
      counts,
      progress: 0.5,
      ...fields
    } as Group;
    this._count += group.size;
    this.groups.unshift(group);
    return group;
  }

  /** Have other jobs of a group be in each state. */
  move(group: Group, counts: Group['counts']): void {
    this.groups = this.groups.map(one =>
      one.id === group.id ? { ...one, counts } : one
    );
  }

  /** End a job, some seconds after five o'clock. */
  end(job: Job, seconds: number, fields: Partial<Job> = {}): void {
    const at = Date.parse('2026-03-04T05:00:00Z') + 1000 * seconds;
    const jobs = Object.values(this.jobs).find(all => all.includes(job))!;
    jobs[jobs.indexOf(job)] = {
      ...job,
      status: 'succeeded',
      end_time: new Date(at).toISOString(),
      ...fields
    };
  }

  private async answer(request: Request): Promise<Response> {
    await this.gate;
    if (this.away) {
      throw new TypeError('Failed to fetch');
    }
    const url = new URL(request.url);
    const path = url.pathname.slice('/user/me/taskapi/'.length);
    const search = url.search.replace(/[?&]\d+$/, ''); // Lab's, against caches
    const said = `${request.method} ${path}${search}`;
    if (request.method !== 'GET') {
      this.asked.push(said);
      const body = await request.text();
      this.bodies.push(body && JSON.parse(body));
    }
    const refusal = Object.entries(this.refusals).find(([beginning]) =>
      said.startsWith(beginning)
    );
    if (refusal) {
      const [status, kind, message] = refusal[1];
      return Response.json({ kind, message }, { status });
    }
    const [body, status] = this.route(request.method, path, url.searchParams);
    const headers: HeadersInit = this.now ? { Date: this.now } : {};
    return Response.json(body, { status: status ?? 200, headers });
  }

  private route(
    method: string,
    path: string,
    query: URLSearchParams
  ): [unknown, number?] {
    if (path === 'environments') {
      const environments = Object.keys(this.jobs).map(name => ({
        name,
        provider: name === 'local' ? 'local' : 'cortex'
      }));
      return [{ default_environment: this.first, environments }];
    }
    const [environment, verb, name, more] = path.split('/');
    const jobs = this.jobs[environment];
    const job = jobs?.find(one => one.job_id === name);
    const missing: [unknown, number] = [
      { kind: 'job.not_found', message: `there is no job ${name}` },
      404
    ];
    switch (`${method} ${verb}${more ? ` ${more}` : name ? ' one' : ''}`) {
      case 'GET get':
        return [
          this.apis.map(api => ({ metadata: { name: api, kind: 'TaskAPI' } }))
        ];
      case 'GET jobs': {
        this.lists.push(query.toString());
        const wanted = query.get('status')?.split(',');
        const search = query.get('search');
        const before = query.get('cursor') ?? '';
        const most = Math.min(Number(query.get('limit') ?? 50), this.most);
        const passing = jobs.filter(
          one =>
            (!wanted || wanted.includes(one.status)) &&
            !(one.group && query.has('groups'))
        );
        const counts: { [status: string]: number } = {};
        passing.forEach(one => {
          counts[one.status] = (counts[one.status] ?? 0) + 1;
        });
        const left = passing.filter(
          one =>
            one.job_id > before &&
            (!search || JSON.stringify(one).includes(search))
        );
        const page = left.slice(0, most);
        return [
          {
            jobs: page.map(listed),
            next_cursor:
              left.length > page.length ? page[page.length - 1].job_id : null,
            ...(query.has('counts') ? { counts } : {}),
            ...(query.has('groups') && environment === 'local'
              ? {
                  groups: this.groups.filter(
                    ({ counts: each }) =>
                      !before && (!wanted || wanted.some(one => each[one]))
                  )
                }
              : {}),
            ...(search ? { searched: passing.length } : {})
          }
        ];
      }
      case 'GET groups one': {
        this.lists.push(`${name} ${query.toString()}`);
        const group = this.groups.find(({ id }) => id === name);
        const after = Number(query.get('cursor') ?? -1);
        const wanted = query.get('status')?.split(',');
        const most = Number(query.get('limit') ?? 50);
        const left = jobs
          .filter(
            one =>
              one.group === name &&
              one.index! > after &&
              !one.retried_by &&
              (!wanted || wanted.includes(one.status))
          )
          .sort((a, b) => a.index! - b.index!);
        const page = left.slice(0, most);
        const more = left.length > most ? `${page[most - 1].index}` : null;
        return group ? [{ group, jobs: page, next_cursor: more }] : missing;
      }
      case 'DELETE groups one': {
        const group = this.groups.find(({ id }) => id === name)!;
        if (query.has('forget')) {
          this.groups = this.groups.filter(one => one !== group);
        } else {
          this.move(group, { stopped: group.size });
        }
        return [{ message: 'done' }];
      }
      case 'POST groups rerun':
        return [{ group: this.addGroup(), job_ids: ['1'] }];
      case 'GET jobs one':
        return job ? [{ job_status: job }] : missing;
      case 'GET schedules':
        this.scheduleReads += 1;
        return this.schedules
          ? [{ schedules: this.schedules, hint: 'not `installed`' }]
          : [{ kind: 'error', message: 'Not Found' }, 404];
      case 'PATCH schedules one':
        this.schedules = this.schedules!.map(one =>
          one.name === decodeURIComponent(name)
            ? { ...one, ...(this.bodies[this.bodies.length - 1] as object) }
            : one
        );
        return [{}];
      case 'DELETE schedules one':
        this.schedules = this.schedules!.filter(
          one => one.name !== decodeURIComponent(name)
        );
        return [{ message: 'deleted' }];
      case 'POST schedules run':
        return [this.add({ schedule: decodeURIComponent(name) })];
      case 'GET notifications':
        return [{ names: this.names, deliveries: [] }];
      case 'GET waits':
        return [{ ids: this.waited }];
      case 'DELETE jobs one':
        this.jobs[environment] = jobs.filter(one => one !== job);
        return job ? [{ message: `deleted job ${name}` }] : missing;
      case 'DELETE jobs':
        this.jobs[environment] = jobs.filter(one => !hasEnded(one));
        return [{ message: 'deleted some jobs' }];
      case 'POST jobs rerun':
        return [this.add({ environment, api_name: job!.api_name })];
      case 'DELETE tasks one': {
        const stopped = jobs.find(one => one.job_id === query.get('jobID'))!;
        this.end(stopped, 99, { status: 'stopped' });
        return [{ message: 'stopped job' }];
      }
      case 'DELETE delete one':
        this.apis.splice(this.apis.indexOf(name), 1);
        return [{ message: `deleting ${name}` }];
      default:
        throw new Error(`no answer to ${method} ${path}`);
    }
  }

  /** How often the schedules were read. */
  scheduleReads = 0;

  /** Jobs that a page has at most, whatever was asked for. */
  most = Infinity;

  /** The queries of lists, in order. */
  readonly lists: string[] = [];

  private _count = 0;
}

/** Return a job as a list has it: without a large config. */
function listed(job: Job): Job {
  const { config, ...rest } = job;
  return JSON.stringify(config).length > 2048
    ? { ...rest, config_truncated: true }
    : job;
}

/** A page that is open in a browser. */
export interface Tab {
  model: TaskAPIModel;
  /** Have an event come. */
  told: (id: string, status: string, group?: string) => void;
  /** Have an event about a schedule come. */
  toldOfSchedules: () => void;
}
