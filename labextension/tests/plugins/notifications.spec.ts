import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { Signal } from '@lumino/signaling';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Group, Job } from '../../src/api/contract';
import { refOf } from '../../src/model/model';
import { notifications, Notifier } from '../../src/plugins/notifications';
import { SeenJobs } from '../../src/plugins/seen';
import { CommandIDs, NAMESPACE } from '../../src/tokens';
import type { Tab } from './wire';
import { Wire } from './wire';

const SERVER = 'http://localhost:3000/user/me/';

const trans = nullTranslator.load(NAMESPACE);
let wire: Wire;
let executed: unknown[];
let commands: CommandRegistry;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  wire = new Wire();
  executed = [];
  commands = new CommandRegistry();
  for (const id of [CommandIDs.openLog, CommandIDs.showJob, CommandIDs.show]) {
    commands.addCommand(id, { execute: args => executed.push([id, args]) });
  }
});

afterEach(() => {
  vi.useRealTimers();
  localStorage.clear();
  Notification.dismiss();
});

/** Open a page. */
async function page(server = SERVER): Promise<Tab & { notifier: Notifier }> {
  const tab = wire.tab();
  const seen = new SeenJobs(server);
  const notifier = new Notifier(tab.model, seen, commands, trans);
  await tab.model.refresh();
  await settled();
  return { ...tab, notifier };
}

/** Leave time for a message that must not come. */
async function settled(): Promise<void> {
  await vi.advanceTimersByTimeAsync(5_000);
}

const told = () =>
  Notification.manager.notifications.map(({ type, message }) => [
    type,
    message
  ]);

async function tells(...expected: [string, string][]): Promise<void> {
  await vi.waitFor(() => expect(told().sort()).toEqual(expected.sort()), 3000);
}

const short = (job: Job) => job.job_id.slice(-4);

describe('a message when a job ends', () => {
  it('says how, and offers log and job', async () => {
    const tab = await page();
    const job = wire.add();
    tab.told(job.job_id, 'running');
    await vi.waitFor(() => expect(tab.model.local.inProgress).toHaveLength(1));
    wire.end(job, 185);
    tab.told(job.job_id, 'succeeded');
    await tells([
      'success',
      `train · ${short(job)} succeeded after 3 min 05 s`
    ]);
    const [{ options }] = Notification.manager.notifications;
    expect(options.autoClose).toBeGreaterThan(0);
    for (const { callback } of options.actions!) {
      callback(new MouseEvent('click'));
    }
    expect(options.actions!.map(action => action.label)).toEqual([
      'Show Log',
      'Show Job'
    ]);
    const ref = refOf('local', job);
    expect(executed).toEqual([
      [CommandIDs.openLog, ref],
      [CommandIDs.showJob, ref]
    ]);
  });

  it('says why it failed, in one line of text', async () => {
    const tab = await page();
    const jobs = [
      wire.add({ api_name: '<b>%1</b>' }),
      wire.add(),
      wire.add({ start_time: null })
    ];
    wire.end(jobs[0], 1, {
      status: 'worker_error',
      reason: `ValueError:\n<script>alert(1)</script> ${'x'.repeat(500)}`
    });
    wire.end(jobs[1], 2, { status: 'worker_oom' });
    wire.end(jobs[2], 3, { status: 'timed_out', reason: 'not done in 3 s' });
    await tab.model.refresh();
    await vi.waitFor(() => expect(told()).toHaveLength(3), 3000);
    const [failed, oom, late] = told().sort(
      ([, a], [, b]) => a.length - b.length && b.length - a.length
    );
    expect(failed[0]).toBe('error');
    expect(failed[1]).toContain(
      `<b>%1</b> · ${short(jobs[0])}: worker error after 1.0 s: ValueError: <script>alert(1)</script> xxx`
    );
    expect(failed[1]).toHaveLength(140);
    expect([oom, late].sort()).toEqual([
      ['error', `train · ${short(jobs[1])}: out of memory after 2.0 s`],
      ['warning', `train · ${short(jobs[2])}: timed out: not done in 3 s`]
    ]);
  });

  it('is not given for what ended before this browser came, or by a stop', async () => {
    wire.end(wire.add(), 10);
    const running = wire.add();
    const tab = await page();
    const stopped = wire.add();
    wire.end(stopped, 20, { status: 'stopped' });
    await tab.model.refresh();
    await settled();
    expect(told()).toEqual([]);
    wire.end(running, 30);
    await tab.model.refresh();
    await tells(['success', `train · ${short(running)} succeeded after 30 s`]);
  });

  it('comes once: not again after a reload, not from another tab', async () => {
    const tabs = await Promise.all([page(), page()]);
    const job = wire.add();
    wire.end(job, 10);
    await Promise.all(tabs.map(({ model }) => model.refresh()));
    await tells(['success', `train · ${short(job)} succeeded after 10 s`]);
    await page();
    await settled();
    expect(told()).toHaveLength(1);
  });

  it('comes on the next load for what ended while no page was open', async () => {
    const tab = await page();
    const [first, second] = [wire.add(), wire.add()];
    await tab.model.refresh();
    await settled();
    tab.model.dispose();
    wire.end(first, 10);
    await page();
    await tells(['success', `train · ${short(first)} succeeded after 10 s`]);
    // One that ended before another that was told of, and is read later.
    wire.end(second, 5);
    await page();
    await vi.waitFor(() => expect(told()).toHaveLength(2), 3000);
  });

  it('is one for many', async () => {
    const tab = await page();
    const jobs = Array.from({ length: 4 }, () => wire.add());
    jobs.forEach((job, index) => wire.end(job, index + 1));
    await tab.model.refresh();
    await tells(['success', '4 jobs succeeded']);
    const more = Array.from({ length: 5 }, () => wire.add());
    more.forEach((job, index) =>
      wire.end(job, index + 9, { status: index ? 'succeeded' : 'timed_out' })
    );
    await tab.model.refresh();
    await tells(['warning', '9 jobs ended, 1 of them failed']);
    wire.end(wire.add(), 20);
    await tab.model.refresh();
    await tells(['warning', '10 jobs ended, 1 of them failed']);
    const [{ modifiedAt }] = Notification.manager.notifications;
    wire.end(wire.add(), 21, { status: 'stopped' });
    await tab.model.refresh();
    await settled();
    expect(Notification.manager.notifications[0].modifiedAt).toBe(modifiedAt);
    const [{ options }] = Notification.manager.notifications;
    options.actions![0].callback(new MouseEvent('click'));
    expect(executed).toEqual([[CommandIDs.show, {}]]);
  });

  it('takes the place of single ones where more and more end', async () => {
    const tab = await page();
    for (const count of [1, 2, 3]) {
      wire.end(wire.add(), count);
      await tab.model.refresh();
      await vi.waitFor(() => expect(told()).toHaveLength(count), 3000);
    }
    wire.end(wire.add(), 4);
    await tab.model.refresh();
    await tells(['success', '4 jobs succeeded']);
    Notification.dismiss();
    const job = wire.add();
    wire.end(job, 5);
    await tab.model.refresh();
    await tells(['success', `train · ${short(job)} succeeded after 5.0 s`]);
  });

  it('is not given for a page of older jobs', async () => {
    wire.end(wire.add(), 100);
    const tab = await page();
    wire.end(wire.add(), 10);
    wire.end(wire.add(), 20);
    await tab.model.refresh();
    await settled();
    expect(told()).toEqual([]);
  });

  it('is not given for what ended before, whenever that is read', async () => {
    wire.now = 'Wed, 04 Mar 2026 05:01:00 GMT';
    const tab = await page(); // where all that is listed still runs
    wire.end(wire.add(), 50);
    await tab.model.refresh();
    await settled();
    expect(told()).toEqual([]);
    wire.end(wire.add(), 70);
    await tab.model.refresh();
    await vi.waitFor(() => expect(told()).toHaveLength(1), 3000);
  });

  it('is not given for short ones, what is tried again, or what a cell waits for', async () => {
    const tab = await page();
    tab.notifier.after = 10;
    wire.end(wire.add(), 9);
    wire.end(wire.add(), 11, { status: 'worker_error', retried_by: 'x' });
    wire.end(wire.add(), 12);
    wire.waited.push(wire.jobs.local[0].job_id);
    await tab.model.refresh();
    await settled();
    expect(told()).toEqual([]);
    const job = wire.add();
    wire.end(job, 10);
    await tab.model.refresh();
    await tells(['success', `train · ${short(job)} succeeded after 10 s`]);
  });

  it('is given for those that asked, and of scheduled ones for failures alone', async () => {
    const tab = await page();
    tab.notifier.after = 10;
    const asked = wire.add({ notify: ['ops', 'browser'] });
    wire.end(asked, 1);
    wire.waited.push(asked.job_id);
    wire.end(wire.add({ notify: ['ops'] }), 2);
    wire.end(wire.add({ notify: [] }), 60);
    wire.end(wire.add({ schedule: 'nightly' }), 60);
    const failed = wire.add({ schedule: 'nightly' });
    wire.end(failed, 3, { status: 'worker_oom' });
    await tab.model.refresh();
    await tells(
      ['success', `train · ${short(asked)} succeeded after 1.0 s`],
      ['error', `train · ${short(failed)}: out of memory after 3.0 s`]
    );
  });

  it('is given for a short group whose jobs asked', async () => {
    const tab = await page();
    tab.notifier.after = 60;
    for (const notify of [['browser'], undefined]) {
      const group = wire.addGroup({ name: `asks ${notify}`, counts: {} });
      wire.add({ group: group.id, index: 0, notify });
      await tab.model.refresh();
      Object.assign(group, {
        ...{ counts: { succeeded: 1 }, end_time: '2026-03-04T05:00:05Z' }
      });
    }
    await tab.model.refresh();
    await tells(['success', 'asks browser: 1 jobs succeeded after 5.0 s']);
  });

  it('is one for all that ended while no page was open', async () => {
    const tab = await page();
    const jobs = [wire.add(), wire.add(), wire.add()];
    await tab.model.refresh();
    await settled();
    tab.model.dispose();
    jobs.forEach((job, index) =>
      wire.end(job, 20, { status: index ? 'succeeded' : 'worker_error' })
    );
    await page();
    await tells([
      'warning',
      'While this page was closed, 3 jobs ended, 1 of them failed'
    ]);
  });

  it('is one for a group, once all of its jobs have ended', async () => {
    const tabs = await Promise.all([page(), page()]);
    const group = {
      ...{ id: 'g1', name: '<b>rates', api_name: 'train', size: 3 },
      created_time: '2026-03-04T05:00:00Z'
    };
    const refresh = async (more: object) => {
      wire.groups = [{ ...group, ...more } as unknown as Group];
      await Promise.all(tabs.map(({ model }) => model.refresh()));
      await settled();
    };
    await refresh({ counts: { succeeded: 1, running: 2 } });
    expect(told()).toEqual([]);
    const over = { counts: { succeeded: 2, worker_error: 1 } };
    await refresh({ ...over, end_time: '2026-03-04T05:00:40Z' });
    await tells([
      'error',
      '<b>rates: 2 of 3 jobs succeeded after 40 s, 1 failed'
    ]);
    await refresh({ ...over, end_time: '2026-03-04T05:00:40Z' });
    expect(told()).toHaveLength(1);
  });

  it('is remembered for each server and environment apart', async () => {
    wire.jobs.prod = [];
    const tab = await page();
    wire.end(wire.add(), 10);
    const there = wire.add({ environment: 'prod' });
    wire.end(there, 5);
    tab.model.environment = 'prod'; // seen for the first time
    await tab.model.refresh();
    await tells([
      'success',
      `train · ${short(wire.jobs.local[0])} succeeded after 10 s`
    ]);
    await page('http://localhost:3000/user/you/');
    await settled();
    expect(told()).toHaveLength(1);
  });

  it.each([
    '',
    'null',
    '{"local": 7}',
    '{"local": {"until": 0, "ended": [7]}}'
  ])('needs no storage that keeps, and bears a spoilt one: %s', async kept => {
    localStorage.setItem(`${NAMESPACE}:ended:${SERVER}`, kept);
    const full = vi
      .spyOn(Storage.prototype, 'setItem')
      .mockImplementation(() => {
        throw new DOMException('full', 'QuotaExceededError');
      });
    const tab = await page();
    const job = wire.add();
    wire.end(job, 10);
    await tab.model.refresh();
    await tells(['success', `train · ${short(job)} succeeded after 10 s`]);
    await tab.model.refresh();
    await settled();
    expect(told()).toHaveLength(1);
    full.mockRestore();
  });

  it('keeps what it remembers short', async () => {
    const seen = new SeenJobs(SERVER);
    await seen.claim('local', []);
    const jobs = Array.from({ length: 1000 }, (_, index) => {
      const job = wire.add();
      wire.end(job, index + 1);
      return wire.jobs.local[0];
    });
    expect(await seen.claim('local', jobs)).toHaveLength(1000);
    expect(await new SeenJobs(SERVER).claim('local', jobs)).toEqual([]);
    const kept = localStorage.getItem(`${NAMESPACE}:ended:${SERVER}`)!;
    expect(kept.length).toBeLessThan(20_000);
  });
});

describe('where the browser has locks', () => {
  it('one of two tabs is told of a job, though storage is slow to spread', async () => {
    let queue = Promise.resolve();
    const request = (_: string, act: () => Promise<void>) =>
      (queue = queue.then(act));
    const locks = { value: { request }, configurable: true };
    Object.defineProperty(navigator, 'locks', locks);
    const store = Storage.prototype.setItem;
    const slow = vi
      .spyOn(Storage.prototype, 'setItem')
      .mockImplementation(function (this: Storage, ...entry) {
        setTimeout(() => store.apply(this, entry), 300);
      });
    try {
      const [one, two] = [new SeenJobs(SERVER), new SeenJobs(SERVER)];
      await one.claim('local', []);
      await settled();
      wire.end(wire.add(), 10);
      const [job] = wire.jobs.local;
      const answers = Promise.all(
        [one, two].map(seen => seen.claim('local', [job]))
      );
      await settled();
      expect((await answers).flat()).toEqual([job]);
    } finally {
      slow.mockRestore();
      Reflect.deleteProperty(navigator, 'locks');
    }
  });
});

describe('the setting', () => {
  function activate(on: boolean): { tab: Tab; set: (on: boolean) => void } {
    const tab = wire.tab();
    const settings = {
      get: (key: string) => ({ composite: key === 'notifications' && on }),
      changed: new Signal<object, void>({})
    };
    const registry = {
      load: () => Promise.resolve(settings)
    } as unknown as ISettingRegistry;
    const app = {
      commands,
      serviceManager: { serverSettings: { baseUrl: SERVER } }
    } as unknown as JupyterFrontEnd;
    notifications.activate(app, tab.model, registry, null, null);
    return {
      tab,
      set: value => {
        on = value;
        settings.changed.emit();
      }
    };
  }

  it('silences; what ended meanwhile is not told of later', async () => {
    const { tab, set } = activate(false);
    await tab.model.refresh();
    await settled();
    wire.end(wire.add(), 10);
    await tab.model.refresh();
    await settled();
    set(true);
    await tab.model.refresh();
    await settled();
    expect(told()).toEqual([]);
    const job = wire.add();
    wire.end(job, 20);
    await tab.model.refresh();
    await tells(['success', `train · ${short(job)} succeeded after 20 s`]);
  });

  it('is not needed, nor are commands', async () => {
    commands = new CommandRegistry();
    const tab = wire.tab();
    const app = {
      commands,
      serviceManager: { serverSettings: { baseUrl: SERVER } }
    } as unknown as JupyterFrontEnd;
    notifications.activate(app, tab.model, null, null, null);
    await tab.model.refresh();
    wire.end(wire.add(), 10);
    await tab.model.refresh();
    await vi.waitFor(() => expect(told()).toHaveLength(1), 3000);
    expect(Notification.manager.notifications[0].options.actions).toEqual([]);
  });
});
