import { describe, expect, it, vi } from 'vitest';

import { APIError, Unreachable, urlOf } from '../src/api/request';
import { entriesOf } from '../src/sidebar/entries';
import { ViewState } from '../src/sidebar/state';
import { Wire } from './plugins/wire';

describe('Jobs', () => {
  it('reads the newest first, and keeps what did not change', async () => {
    const wire = new Wire();
    const older = wire.add();
    const newer = wire.add();
    const { model } = wire.tab();
    await model.local.refresh();
    expect(model.local.all.map(job => job.job_id)).toEqual([
      newer.job_id,
      older.job_id
    ]);
    const [before] = model.local.all;
    await model.local.refresh();
    expect(model.local.all[0]).toBe(before);
  });

  it('takes an ended job for final, whatever answer comes late', async () => {
    const wire = new Wire();
    const job = wire.add();
    const { model } = wire.tab();
    await model.local.refresh();
    wire.end(job, 5);
    await model.local.refresh();
    wire.jobs.local = [job]; // as it was read before it ended
    await model.local.refresh();
    expect(model.local.all[0].status).toBe('succeeded');
  });

  it('keeps a job away that was deleted, whatever answer comes late', async () => {
    const wire = new Wire();
    const [one, two] = [wire.add(), wire.add()];
    const { model } = wire.tab();
    await model.local.refresh();
    model.local.drop(one.job_id);
    await model.local.refresh(); // answered as it was before
    await model.local.refreshJob(one.job_id);
    expect(model.local.all.map(job => job.job_id)).toEqual([two.job_id]);
  });

  it('drops what was deleted, and tells who moved', async () => {
    const wire = new Wire();
    const [one, two] = [wire.add(), wire.add()];
    const { model } = wire.tab();
    const moves: [string, string | undefined, string][] = [];
    model.moved.connect((_, { job, before }) =>
      moves.push([job.job_id, before, job.status])
    );
    await model.local.refresh();
    wire.end(one, 1);
    wire.jobs.local = wire.jobs.local.filter(job => job !== two);
    await model.local.refresh();
    expect(model.local.all.map(job => job.job_id)).toEqual([one.job_id]);
    expect(moves).toEqual([
      [two.job_id, undefined, 'running'],
      [one.job_id, undefined, 'running'],
      [one.job_id, 'running', 'succeeded']
    ]);
  });

  it('says why it could not look, and forgets it when it can', async () => {
    const wire = new Wire();
    const { model } = wire.tab();
    wire.away = true;
    await model.local.refresh();
    expect(model.local.error).toBeInstanceOf(Unreachable);
    expect(model.connected).toBe(false);
    wire.away = false;
    wire.refusals['GET local/get'] = [503, 'error', 'the disk is full'];
    await model.local.refresh();
    expect(model.local.error).toBeInstanceOf(APIError);
    expect(model.local.error?.message).toBe('the disk is full');
    expect(model.connected).toBe(true);
    delete wire.refusals['GET local/get'];
    await model.local.refresh();
    expect(model.local.error).toBeNull();
  });
});

describe('lists of many jobs', () => {
  it('are read once, in pages as short as the server makes them', async () => {
    const wire = new Wire();
    const waiting = Array.from({ length: 30 }, () =>
      wire.add({ status: 'pending' })
    );
    const ended = Array.from({ length: 20 }, () => wire.add());
    ended.forEach(job => wire.end(job, 5));
    wire.most = 8;
    const { model } = wire.tab();
    await model.local.refresh();
    expect(model.local.inProgress).toHaveLength(waiting.length);
    expect(model.local.all).toHaveLength(waiting.length + 8);
    expect(model.local.count('pending')).toBe(waiting.length);
    expect(model.local.partial).toBe(false);
    expect(model.local.total()).toBe(50);
    expect(wire.lists).toHaveLength(1 + 4);
    while (model.local.hasOlder()) {
      await model.local.older();
    }
    expect(model.local.all).toHaveLength(50);
    wire.lists.length = 0;
    waiting.forEach(job => wire.end(job, 9));
    wire.most = Infinity;
    await model.local.refresh();
    expect(model.local.inProgress).toHaveLength(0);
    expect(wire.lists).toHaveLength(1);
  });

  it('are counted by the server where more are in progress than are read', async () => {
    const wire = new Wire();
    Array.from({ length: 1500 }, () => wire.add({ status: 'pending' }));
    const { model } = wire.tab();
    await model.local.refresh();
    expect(model.local.partial).toBe(true);
    expect(model.local.count('pending')).toBe(1500);
    expect(model.local.total()).toBe(1500);
  });

  it('show what the server found, also in what was not read', async () => {
    const wire = new Wire();
    const old = wire.add({ config: { path: 'needle.csv' } });
    const large = wire.add({ config: { text: `${'x'.repeat(3000)} needle` } });
    Array.from({ length: 300 }, () => wire.add());
    [...wire.jobs.local].forEach(job => wire.end(job, 5));
    const { model } = wire.tab();
    await model.local.refresh();
    const state = new ViewState();
    state.set({ search: 'needle' });
    const shown = () =>
      state
        .pick(model.local.all, model.local.found(state.filter)?.ids)
        .map(job => job.job_id);
    expect(shown()).toEqual([]);
    await model.local.older(state.filter);
    expect(shown()).toEqual([large.job_id, old.job_id]);
    expect(model.local.found(state.filter)?.searched).toBe(302);
    expect(model.local.hasOlder(state.filter)).toBe(false);
    state.set({ search: 'needles' });
    expect(shown()).toEqual([]);
  });

  it('keep the config that was read of a job when they leave it out', async () => {
    const wire = new Wire();
    const job = wire.add({ config: { text: 'x'.repeat(3000) } });
    const { model } = wire.tab();
    await model.local.refresh();
    expect(model.local.get(job.job_id)?.config_truncated).toBe(true);
    await model.local.refreshJob(job.job_id);
    expect(model.local.get(job.job_id)?.config).toEqual(job.config);
    wire.end(job, 5);
    await model.local.refresh();
    const read = model.local.get(job.job_id);
    expect([read?.status, read?.config]).toEqual(['succeeded', job.config]);
    const ended = wire.tab().model;
    await ended.local.refresh();
    await ended.local.refreshJob(job.job_id);
    expect(ended.local.get(job.job_id)?.config).toEqual(job.config);
  });
});

describe('groups', () => {
  const ids = (model: { groups: readonly { id: string }[] }) =>
    model.groups.map(({ id }) => id);

  it('are one thing each, counted, and read again when an event names one', async () => {
    const wire = new Wire();
    const old = wire.add();
    wire.end(old, 1);
    const group = wire.addGroup({ counts: { pending: 998, running: 2 } });
    const newer = wire.add({ status: 'pending' });
    const { model, told } = wire.tab();
    const moves: unknown[] = [];
    model.groupMoved.connect((_, { environment, group, before }) =>
      moves.push([environment, group.counts, before?.counts])
    );
    await model.local.refresh();
    expect(model.local.all.map(job => job.job_id)).toEqual([
      newer.job_id,
      old.job_id
    ]);
    expect(ids(model.local)).toEqual([group.id]);
    expect(model.local.count('pending')).toBe(999);
    expect(model.local.total()).toBe(1002);
    expect(model.local.total({ status: ['running'] })).toBe(2);
    const state = new ViewState();
    const shown = () => entriesOf(model.local, state).map(({ id }) => id);
    expect(shown()).toEqual([group.id, newer.job_id, old.job_id]); // what runs comes first
    state.set({ sort: 'newest' });
    expect(shown()).toEqual([newer.job_id, group.id, old.job_id]);
    state.set({ sort: 'oldest' });
    expect(shown()).toEqual([old.job_id, group.id, newer.job_id]);
    state.set({ sort: 'newest', status: 'running' });
    expect(shown()).toEqual([group.id]);
    state.set({ status: 'timed_out' });
    expect(shown()).toEqual([]);
    state.set({ status: '', search: 'G<B>1 train' });
    expect(shown()).toEqual([group.id]);

    wire.lists.length = 0;
    wire.move(group, { succeeded: 10, running: 2, pending: 988 });
    for (let count = 0; count < 10; count++) {
      told(`${count}`, 'succeeded', group.id);
    }
    await vi.waitFor(() => expect(moves).toHaveLength(2));
    expect(moves[1]).toEqual([
      'local',
      { succeeded: 10, running: 2, pending: 988 },
      { pending: 998, running: 2 }
    ]);
    expect(wire.lists.every(one => one.startsWith(group.id))).toBe(true);
    wire.groups = [];
    told('5', 'deleted');
    await vi.waitFor(() => expect(ids(model.local)).toEqual([]));
  });

  it('show their jobs in order, a page at a time, each as its last attempt', async () => {
    const wire = new Wire();
    const group = wire.addGroup({ counts: { running: 600 } });
    const member = (index: number) =>
      wire.add({ group: group.id, index, attempt: 1 });
    const jobs = Array.from({ length: 600 }, (_, index) => member(index));
    const { model, told } = wire.tab();
    await model.local.refresh();
    const state = new ViewState();
    const shown = () => entriesOf(model.local, state);
    expect(shown().map(({ kind }) => kind)).toEqual(['group']);
    state.toggle(group.id);
    model.local.watchGroups(state.openGroups);
    expect(shown().map(({ kind }) => kind)).toEqual(['group', 'more']);
    const filter = { group: group.id };
    await model.local.older(filter);
    expect(shown()).toHaveLength(1 + 250 + 1);
    expect(model.local.all).toEqual([]);
    await model.local.older(filter);
    await model.local.older(filter);
    expect(shown()).toHaveLength(1 + 600);

    const next = member(7);
    Object.assign(next, { attempt: 2 });
    wire.end(jobs[7], 5, { status: 'worker_error', retried_by: next.job_id });
    told(jobs[7].job_id, 'worker_error', group.id);
    await vi.waitFor(() => expect(shown()[8].id).toBe(next.job_id));
    for (const job of jobs.slice(20, 30)) {
      wire.end(job, 6);
      told(job.job_id, 'succeeded', group.id);
    }
    wire.move(group, { succeeded: 10, running: 590 });
    const ended = () =>
      shown().filter(
        entry => entry.kind === 'job' && entry.job.status === 'succeeded'
      ).length;
    await vi.waitFor(() => expect(ended()).toBe(10));
    state.set({ status: 'succeeded' });
    expect(shown().map(({ kind }) => kind)).toEqual(['group', 'more']);
    await model.local.older({ ...state.filter, group: group.id });
    expect(shown()).toHaveLength(1 + 10);
    state.set({ status: '' });
    state.toggle(group.id);
    expect(shown()).toHaveLength(1);
  });
});

describe('TaskAPIModel', () => {
  it('looks again at what an event names', async () => {
    const wire = new Wire();
    const job = wire.add();
    const { model, told } = wire.tab();
    await model.local.refresh();
    wire.end(job, 5);
    const seen = new Promise(resolve => model.moved.connect(resolve));
    told(job.job_id, 'succeeded');
    await seen;
    expect(model.local.get(job.job_id)?.status).toBe('succeeded');
    told(job.job_id, 'deleted');
    expect(model.local.get(job.job_id)).toBeUndefined();
  });

  it('reads the list once where an event names many', async () => {
    const wire = new Wire();
    const { model, told } = wire.tab();
    await model.local.refresh();
    const jobs = Array.from({ length: 100 }, () => wire.add());
    const seen = new Promise<void>(resolve =>
      model.local.changed.connect(
        () => model.local.all.length === 100 && resolve()
      )
    );
    jobs.forEach(job => told(job.job_id, 'running'));
    await seen;
  });

  it('shows the default environment first, and looks there while nobody does', async () => {
    vi.useFakeTimers();
    try {
      const wire = new Wire();
      const job = wire.add({ environment: 'prod' });
      wire.first = 'prod';
      const { model } = wire.tab();
      const moves: [string, string, string][] = [];
      model.moved.connect((_, { environment, job: { job_id, status } }) =>
        moves.push([environment, job_id, status])
      );
      model.start();
      await vi.advanceTimersByTimeAsync(2_000);
      expect(model.environment).toBe('prod');
      wire.end(job, 5);
      await vi.advanceTimersByTimeAsync(20_000);
      expect(moves).toEqual([
        ['prod', job.job_id, 'running'],
        ['prod', job.job_id, 'succeeded']
      ]);
      wire.first = 'local'; // an open page stays where it is
      await vi.advanceTimersByTimeAsync(200_000);
      expect(model.environment).toBe('prod');
      expect(model.isChosen).toBe(false);
      delete wire.jobs.prod;
      await vi.advanceTimersByTimeAsync(200_000);
      expect(model.environment).toBe('local');
      wire.add({ environment: 'prod' });
      model.environment = 'prod';
      expect(model.isChosen).toBe(true);
    } finally {
      vi.useRealTimers();
    }
  });

  it('looks at a hidden page’s cluster where the desktop is told of ends, and else not', async () => {
    vi.useFakeTimers();
    const hidden = vi.spyOn(document, 'hidden', 'get').mockReturnValue(false);
    try {
      const wire = new Wire();
      const job = wire.add({ environment: 'prod' });
      wire.first = 'prod';
      const { model } = wire.tab();
      model.start();
      await vi.advanceTimersByTimeAsync(2_000);
      hidden.mockReturnValue(true);
      wire.end(job, 5);
      await vi.advanceTimersByTimeAsync(200_000);
      expect(model.current.inProgress).toHaveLength(1);
      model.background = true;
      const polled = vi.spyOn(model.local, 'refresh');
      await vi.advanceTimersByTimeAsync(200_000);
      expect(model.current.inProgress).toHaveLength(0);
      expect(polled).not.toHaveBeenCalled(); // of this machine there are events
    } finally {
      hidden.mockRestore();
      vi.useRealTimers();
    }
  });

  it('chooses a job of the environment that is shown, and none of another', async () => {
    const wire = new Wire();
    const job = wire.add();
    const { model } = wire.tab();
    await model.local.refresh();
    model.select(job.job_id);
    expect(model.selected).toEqual(job);
    model.environment = 'prod';
    expect(model.selected).toBeNull();
  });
});

describe('urlOf', () => {
  it('encodes whatever a name holds', () => {
    const { model } = new Wire().tab();
    const url = urlOf(model.client.settings, ['a/b', 'x?y#z'], { q: '&=' });
    expect(new URL(url).pathname).toBe('/user/me/taskapi/a%2Fb/x%3Fy%23z');
    expect(new URL(url).search).toBe('?q=%26%3D');
  });
});
