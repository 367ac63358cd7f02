import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { TaskAPIModel } from '../../src/model/model';
import { refOf } from '../../src/model/model';
import { RunningJobs } from '../../src/plugins/running';
import { CommandIDs, NAMESPACE } from '../../src/tokens';
import { Wire } from './wire';

let wire: Wire;
let model: TaskAPIModel;
let manager: RunningJobs;
let executed: unknown[];

beforeEach(() => {
  wire = new Wire();
  ({ model } = wire.tab());
  executed = [];
  const commands = new CommandRegistry();
  for (const id of [CommandIDs.openLog, CommandIDs.stop, CommandIDs.show]) {
    commands.addCommand(id, {
      execute: args => executed.push([id, args])
    });
  }
  const trans = nullTranslator.load(NAMESPACE);
  manager = new RunningJobs(model, commands, trans);
});

afterEach(() => Notification.dismiss());

describe('the list of what runs', () => {
  it('has the jobs in progress, running ones first', async () => {
    const ended = wire.add();
    wire.end(ended, 1);
    const running = wire.add({
      api_name: '<b>train\u202e</b>',
      notebook: 'work/demo.ipynb'
    });
    wire.add({ status: 'pending', api_name: 'other' });
    expect(manager.running()).toEqual([]);
    await model.refresh();
    const [first, second, ...more] = manager.running();
    expect(more).toEqual([]);
    const short = running.job_id.slice(-4);
    expect(first.label()).toBe(`<b>train\\u202e</b> · ${short}`);
    expect(first.detail!()).toBe('running');
    expect(first.labelTitle!()).toContain(running.job_id);
    expect(first.labelTitle!()).toContain('work/demo.ipynb');
    expect(second.label()).toContain('other');
    expect(second.detail!()).toBe('pending');

    first.open!();
    first.shutdown!();
    const ref = refOf('local', running);
    expect(executed).toEqual([
      [CommandIDs.openLog, ref],
      [CommandIDs.stop, ref]
    ]);
  });

  it('changes when a job begins, moves or ends, and not otherwise', async () => {
    const changed = vi.fn();
    manager.runningChanged.connect(changed);
    const job = wire.add({ status: 'pending' });
    await model.refresh();
    await model.refresh();
    expect(changed).toHaveBeenCalledTimes(1);
    Object.assign(job, { status: 'running' });
    manager.refreshRunning();
    await vi.waitFor(() => expect(changed).toHaveBeenCalledTimes(2));
    wire.end(job, 1);
    await model.refresh();
    expect(changed).toHaveBeenCalledTimes(3);
    expect(manager.running()).toEqual([]);
  });

  it('stays short when thousands wait', async () => {
    for (let count = 0; count < 1000; count++) {
      wire.add({ status: 'pending' });
    }
    await model.refresh();
    const items = manager.running();
    expect(items).toHaveLength(51);
    expect(items[50].label()).toBe('950 more');
    items[50].open!();
    expect(executed).toEqual([[CommandIDs.show, {}]]);
  });

  it('has a group as one entry, however many jobs it has', async () => {
    const group = wire.addGroup({
      counts: { pending: 997, running: 2, worker_oom: 1 }
    });
    wire.addGroup({ counts: { succeeded: 3 } });
    const waiting = wire.add({ status: 'pending' });
    await model.refresh();
    const [first, second, ...more] = manager.running();
    expect(more).toEqual([]);
    expect(first.label()).toBe('train · g<b>1</b>');
    expect(first.detail!()).toBe('1/1000 · 2 running · 1 failed');
    expect(second.label()).toContain(waiting.job_id.slice(-4));
    manager.shutdownAll();
    await vi.waitFor(() => expect(model.local.groupsInProgress).toEqual([]));
    expect(wire.asked[1]).toBe(`DELETE local/groups/${group.id}`);
  });

  it('stops all, those that wait first', async () => {
    const [first, second] = [wire.add(), wire.add({ status: 'pending' })];
    await model.refresh();
    manager.shutdownAll();
    await vi.waitFor(() => expect(model.local.inProgress).toEqual([]));
    expect(wire.asked).toEqual(
      [second, first].map(job => `DELETE local/tasks/train?jobID=${job.job_id}`)
    );
    expect(Notification.manager.count).toBe(0);
  });

  it('says how many could not be stopped, and why', async () => {
    const [first] = [wire.add(), wire.add()];
    wire.refusals[`DELETE local/tasks/train?jobID=${first.job_id}`] = [
      400,
      'error',
      'it holds on'
    ];
    await model.refresh();
    manager.shutdownAll();
    await vi.waitFor(() =>
      expect(Notification.manager.notifications[0]).toMatchObject({
        type: 'error',
        message: 'Could not stop 1 jobs: it holds on'
      })
    );
  });
});
