import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Notification as Message } from '@jupyterlab/apputils';
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { CommandRegistry } from '@lumino/commands';
import { Signal } from '@lumino/signaling';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { refOf } from '../../src/model/model';
import { notifications } from '../../src/plugins/notifications';
import { CommandIDs } from '../../src/tokens';
import type { Tab } from './wire';
import { Wire } from './wire';

/** The browser's notifications, as far as they are used. */
class Shown {
  static permission: NotificationPermission = 'granted';
  static answer: NotificationPermission = 'granted';
  static asked = 0;
  static all: Shown[] = [];
  static requestPermission(): Promise<NotificationPermission> {
    Shown.asked += 1;
    Shown.permission = Shown.answer;
    return Promise.resolve(Shown.answer);
  }

  constructor(
    readonly title: string,
    readonly options: NotificationOptions
  ) {
    Shown.all.push(this);
  }
  onclick: () => void = () => undefined;
  onclose: () => void = () => undefined;
  closed = false;
  close(): void {
    this.closed = true;
    this.onclose();
  }
}

const LABEL = 'Desktop Notifications When Jobs End';

let wire: Wire;
let executed: unknown[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  Object.assign(Shown, { permission: 'granted', answer: 'granted', asked: 0 });
  Shown.all = [];
  vi.stubGlobal('Notification', Shown);
  vi.stubGlobal('isSecureContext', true);
  vi.spyOn(window, 'focus').mockImplementation(() => {
    executed.push('focus');
  });
  wire = new Wire();
  executed = [];
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  localStorage.clear();
  Message.dismiss();
});

interface IPage extends Tab {
  commands: CommandRegistry;
  /** Set the setting, as its editor does. */
  set: (on: boolean) => Promise<void>;
  /** What the setting is. */
  get: () => boolean;
}

/** Open a page, with what the settings say. */
async function page(on = true, messages = true): Promise<IPage> {
  const tab = wire.tab();
  const commands = new CommandRegistry();
  for (const id of [CommandIDs.showJob, CommandIDs.openJobs, CommandIDs.show]) {
    commands.addCommand(id, { execute: args => executed.push([id, args]) });
  }
  const values: { [key: string]: unknown } = {
    ...{ desktop: on, notifications: messages, notify_after: 0 }
  };
  const changed = new Signal<object, void>({});
  const settings = {
    changed,
    get: (key: string) => ({ composite: values[key] }),
    set: (key: string, value: unknown) => {
      values[key] = value;
      changed.emit();
      return settled();
    }
  };
  const app = {
    commands,
    serviceManager: { serverSettings: { baseUrl: 'http://localhost:3000/' } }
  } as unknown as JupyterFrontEnd;
  const registry = {
    load: () => Promise.resolve(settings)
  } as unknown as ISettingRegistry;
  notifications.activate(app, tab.model, registry, null, null);
  await tab.model.refresh();
  await settled();
  return {
    ...tab,
    commands,
    set: value => settings.set('desktop', value),
    get: () => values.desktop === true
  };
}

async function settled(): Promise<void> {
  await vi.advanceTimersByTimeAsync(5_000);
}

const told = () => Message.manager.notifications.map(one => one.message);

describe('a desktop notification', () => {
  it('says how a job ended, as text, and a click shows the job', async () => {
    const tab = await page();
    const job = wire.add({ api_name: '<b>train' });
    wire.end(job, 12, {
      status: 'worker_error',
      reason: `ValueError:\n<img src=x> ${'x'.repeat(500)}`
    });
    await tab.model.refresh();
    await settled();
    expect(Shown.all).toHaveLength(1);
    const [shown] = Shown.all;
    expect(shown.title).toBe(
      `<b>train · ${job.job_id.slice(-4)}: worker error after 12 s`
    );
    expect(shown.options.body).toContain('ValueError: <img src=x> xxx');
    expect(shown.options.body).toHaveLength(300);
    expect(told()).toHaveLength(1); // Lab's is there, too
    shown.onclick();
    expect(executed).toEqual([
      'focus',
      [CommandIDs.showJob, refOf('local', job)]
    ]);
    expect(shown.closed).toBe(true);
  });

  it('comes without a message of Lab, where only it is wanted; once in all tabs', async () => {
    const tabs = [await page(true, false), await page(true, false)];
    wire.end(wire.add(), 12);
    await Promise.all(tabs.map(({ model }) => model.refresh()));
    await settled();
    expect(Shown.all).toHaveLength(1);
    expect(told()).toEqual([]);
  });

  it('is one for a group, and one for many in the place of those before', async () => {
    const tab = await page();
    const group = wire.addGroup({
      ...{ name: 'rates', size: 100, counts: { succeeded: 100 } },
      end_time: '2026-03-04T05:00:30Z'
    });
    wire.end(wire.add(), 12);
    await tab.model.refresh();
    await settled();
    expect(Shown.all.map(({ title }) => title).sort()).toEqual([
      'rates: 100 jobs succeeded after 30 s',
      `train · ${wire.jobs.local[0].job_id.slice(-4)} succeeded after 12 s`
    ]);
    Shown.all.find(({ title }) => title.startsWith('rates'))!.onclick();
    expect(executed).toEqual([
      'focus',
      [CommandIDs.openJobs, { environment: 'local', group: group.id }]
    ]);
    [13, 14, 15].forEach(seconds => wire.end(wire.add(), seconds));
    await tab.model.refresh();
    await settled();
    const open = Shown.all.filter(({ closed }) => !closed);
    expect(open.map(({ title }) => title)).toEqual(['104 jobs succeeded']);
    open[0].onclick();
    expect(executed.at(-1)).toEqual([CommandIDs.show, {}]);
  });

  it('is not shown for what ended while no page was open: the message says it', async () => {
    const tab = await page();
    const job = wire.add();
    await tab.model.refresh();
    tab.model.dispose();
    wire.end(job, 20);
    await page();
    expect(told()).toHaveLength(1);
    expect(Shown.all).toEqual([]);
  });

  it('is left out where the browser has them by service workers alone', async () => {
    const tab = await page();
    class Refuses extends Shown {
      constructor(title: string, options: NotificationOptions) {
        super(title, options);
        throw new TypeError('Illegal constructor');
      }
    }
    vi.stubGlobal('Notification', Refuses);
    wire.end(wire.add(), 12);
    await tab.model.refresh();
    await settled();
    expect(told()).toHaveLength(1);
  });
});

describe('permission', () => {
  it('is asked for by a click in the settings, never at the start', async () => {
    Shown.permission = 'default';
    const tab = await page();
    wire.end(wire.add(), 12);
    await tab.model.refresh();
    await settled();
    expect([Shown.asked, Shown.all]).toEqual([0, []]);
    expect(tab.commands.isToggled(CommandIDs.desktop)).toBe(false);
    expect(tab.model.background).toBe(false);
    await tab.set(false);
    await tab.set(true);
    expect(Shown.asked).toBe(1);
    expect(told()[0]).toBe(
      'This browser shows desktop notifications when jobs end.'
    );
    expect(tab.commands.isToggled(CommandIDs.desktop)).toBe(true);
    expect(tab.model.background).toBe(true);
  });

  it('is asked for by the command, which turns them on and off', async () => {
    Shown.permission = 'default';
    const { commands, get } = await page(false);
    expect(commands.label(CommandIDs.desktop)).toBe(LABEL);
    const turn = async () => {
      const done = commands.execute(CommandIDs.desktop);
      await settled();
      await done;
      return [get(), commands.isToggled(CommandIDs.desktop), Shown.asked];
    };
    expect(await turn()).toEqual([true, true, 1]);
    expect(await turn()).toEqual([false, false, 1]);
    expect(await turn()).toEqual([true, true, 1]);
  });

  it.each([
    ['denied', 'denies notifications. Set them to “Allow”'],
    ['default', `choose “${LABEL}” to be asked again`]
  ] as const)('that is %s: it says how to undo it', async (answer, words) => {
    Object.assign(Shown, { permission: 'default', answer });
    const { commands, get, set } = await page(false);
    const done = commands.execute(CommandIDs.desktop);
    await settled();
    await done;
    expect([get(), Shown.asked]).toEqual([false, 1]);
    expect(told()).toEqual([expect.stringContaining(words)]);
    expect(told()[0].length).toBeLessThanOrEqual(140); // Lab cuts longer ones
    await set(true);
    expect(told()).toHaveLength(2);
    expect(commands.isToggled(CommandIDs.desktop)).toBe(false);
  });

  it('can’t be had without https, or in a browser that has none', async () => {
    vi.stubGlobal('isSecureContext', false);
    const { commands } = await page(false);
    await commands.execute(CommandIDs.desktop);
    vi.stubGlobal('isSecureContext', true);
    Reflect.deleteProperty(window, 'Notification');
    await commands.execute(CommandIDs.desktop);
    expect(told()).toEqual([
      'This browser has no desktop notifications.',
      'No desktop notifications: browsers have them only over https, or on localhost.'
    ]);
    expect(commands.isToggled(CommandIDs.desktop)).toBe(false);
  });
});
