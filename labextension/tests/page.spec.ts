import type { Event } from '@jupyterlab/services';
import { nullTranslator } from '@jupyterlab/translation';
import { Signal, Stream } from '@lumino/signaling';
import { afterEach, describe, expect, it, vi } from 'vitest';

import type { IJobQuery, TaskAPIClient } from '../src/api/client';
import type { Job } from '../src/api/contract';
import { JOB_EVENTS } from '../src/api/contract';
import { Search } from '../src/model/search';
import { aside, csvOf, sorted } from '../src/page/columns';
import { JobSource } from '../src/page/source';
import { Choice, PageState } from '../src/page/state';

const trans = nullTranslator.load('');

function job(id: string, fields: Partial<Job> = {}): Job {
  return {
    job_id: id,
    api_name: 'train',
    status: 'succeeded',
    config: {},
    ...fields
  } as Job;
}

/** A server with some jobs, of which a page by ids holds two. */
function page(jobs: Job[], room = 2) {
  const asked: IJobQuery[] = [];
  const client = {
    jobs: (_: string, query: IJobQuery) => {
      asked.push(query);
      const { ids, status } = query;
      const found = jobs.filter(
        one =>
          (!ids || ids.includes(one.job_id)) &&
          (!status || status.includes(one.status))
      );
      const fits = ids ? found.slice(0, room) : found;
      return Promise.resolve({
        jobs: structuredClone(fits),
        next_cursor: null
      });
    },
    groups: () => Promise.resolve({ groups: [{ id: 'g1', name: 'rates' }] })
  } as unknown as TaskAPIClient;
  const events = new Stream<unknown, Event.Emission>({});
  const source = new JobSource({ environment: 'local' }, client, events);
  return {
    source,
    events,
    asked,
    state: new PageState(source, new Choice(), trans)
  };
}

afterEach(() => vi.useRealTimers());

describe('Search', () => {
  const one = job('01', {
    config: {
      optim: { lr: 0.078 },
      name: 'Two Words',
      on: true,
      n: 10,
      none: null
    }
  });

  it.each([
    ['lr=0.078', true],
    ['lr:7.8e-2', true],
    ['optim.lr=0.078', true],
    ['tim.lr=0.078', false],
    ['lr=0.07', false],
    ['n=1', false],
    ['n=10 on=True', true],
    ['on=1', false],
    ['none=None', true],
    ['name=words', true],
    ['name="two words"', true],
    ['name="two"', false],
    ['train n=10', true],
    ['=', false],
    ['n=[[', false]
  ])('%s', (text, found) => {
    expect(new Search(text).fits(one)).toBe(found);
  });
});

describe('the page of jobs', () => {
  it('shows what is in progress first, in the order of the line, and the keys that differ', async () => {
    const { source, state } = page([
      job('01', { config: { lr: 1, seed: 5 } }),
      job('02', { status: 'pending', config: { lr: 2, seed: 5 } }),
      job('03', {
        status: 'pending',
        config: { lr: { deep: 1 }, seed: 5 },
        reason: 'waits for 1 of 2 cores, 3rd in line'
      }),
      job('04', { status: 'running', config: { lr: 2, seed: 5 } }),
      job('05', { group: 'g1', results: { best: 1.5 }, metrics: { loss: 1 } })
    ]);
    await source.load();
    expect(state.shown.map(one => one.job_id)).toEqual([
      '04',
      '03',
      '02',
      '01',
      '05'
    ]);
    expect(aside(source.get('03')!)).toBe('3rd in line');
    const shown = state.columns.shown.map(({ id }) => id);
    expect(shown).toEqual(
      expect.arrayContaining([
        'config.lr',
        'config.lr.deep',
        'metric.loss',
        'result.best',
        'group'
      ])
    );
    const group = state.columns.all.find(({ id }) => id === 'group')!;
    expect(group.value(source.get('05')!)).toBe('rates');
    state.choice.set({ 'config.lr': false, cpu: true });
    expect(state.columns.shown.map(({ id }) => id)).toContain('cpu');
    expect(state.columns.shown.map(({ id }) => id)).not.toContain('config.lr');
    state.set({ search: 'lr=2', status: 'running' });
    expect(state.shown.map(one => one.job_id)).toEqual(['04']);
    source.dispose();
  });

  it('reads what events name, some at a time, and forgets what is gone', async () => {
    const jobs = ['01', '02', '03', '04'].map(id =>
      job(id, { status: 'running' })
    );
    const { source, events, asked } = page(jobs);
    source.active = true;
    await vi.waitFor(() => expect(source.size).toBe(4));
    jobs.splice(2, 1);
    jobs.forEach(one => (one.status = 'succeeded'));
    asked.length = 0;
    for (const id of ['01', '02', '03', '04']) {
      events.emit({
        schema_id: JOB_EVENTS,
        job_id: id,
        status: 'succeeded'
      } as unknown as Event.Emission);
    }
    await vi.waitFor(() =>
      expect([...source.jobs].map(one => one.status)).toEqual(
        Array(3).fill('succeeded')
      )
    );
    expect(asked.length).toBeLessThan(5);
    expect(source.get('03')).toBeUndefined();
    events.emit({
      schema_id: JOB_EVENTS,
      job_id: '01',
      status: 'deleted'
    } as unknown as Event.Emission);
    expect(source.get('01')).toBeUndefined();
    Signal.clearData(source);
    source.dispose();
  });

  it('sorts numbers before texts, nothing last; copies exact values', async () => {
    const { source, state } = page([
      job('01', { config: { v: 10, t: 'a,"b"\n=1' } }),
      job('02', { config: { v: 9.5 } }),
      job('03', { config: { v: 'x' } }),
      job('04')
    ]);
    await source.load();
    const column = state.columns.all.find(({ id }) => id === 'config.v')!;
    const order = (descending: boolean) =>
      sorted([...source.jobs], column, descending).map(one => one.job_id);
    expect(order(false)).toEqual(['02', '01', '03', '04']);
    expect(order(true)).toEqual(['01', '02', '03', '04']);
    const columns = ['id', 'config.v', 'config.t'].map(name =>
      state.columns.all.find(({ id }) => id === name)!
    );
    expect(csvOf([...source.jobs].slice(0, 2), columns)).toBe(
      'id,v,t\r\n01,10,"a,""b""\n=1"\r\n02,9.5,\r\n'
    );
    source.dispose();
  });
});
