import type { IEditorServices } from '@jupyterlab/codeeditor';
import { Dialog, Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ReactWidget } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import type { AccordionPanel } from '@lumino/widgets';
import { Widget } from '@lumino/widgets';
import React from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { API, Job, Schedule } from '../src/api/contract';
import type { TaskAPIModel } from '../src/model/model';
import { askToRun } from '../src/notebook/dialog';
import { formFor } from '../src/notebook/form';
import type { IScheduleOptions } from '../src/schedule/dialog';
import { askToSchedule } from '../src/schedule/dialog';
import {
  changesOf,
  overridesOf,
  scheduleFieldIn,
  scheduleFormFor,
  scheduleRequestOf,
  scheduleText,
  wrongInSchedule
} from '../src/schedule/form';
import {
  isOver,
  misfireWords,
  nextWords,
  typed,
  wall,
  whenWords,
  zones
} from '../src/schedule/words';
import { Sidebar } from '../src/sidebar';
import { addScheduleCommands } from '../src/sidebar/schedulecommands';
import { ScheduleList } from '../src/sidebar/schedules';
import { ViewState } from '../src/sidebar/state';
import { CommandIDs } from '../src/tokens';
import { Wire } from './plugins/wire';

const HOSTILE = '<img src=x onerror=alert(1)>\u202e';
const trans = nullTranslator.load('');
const now = new Date('2026-11-30T12:00:00Z');

function schedule(fields: Partial<Schedule> = {}): Schedule {
  return {
    name: 'nightly',
    api: 'train',
    schedule: '0 6 * * MON-FRI',
    timezone: 'Europe/Berlin',
    active: true,
    explained: 'At 06:00 on Monday through Friday',
    config: null,
    timeout: null,
    retries: null,
    overlap: 'skip',
    catch_up: 'last',
    until: null,
    next_time: '2026-11-30T15:00:00Z',
    last_job_id: null,
    last_status: null,
    last_time: null,
    misfires: 0,
    misfire: null,
    misfire_time: null,
    paused: null,
    ...fields
  } as Schedule;
}

const until = (seen: () => void) => vi.waitFor(seen, { timeout: 4_000 });

/** No editor: what is typed into Lab's own is its concern. */
const editors = {
  factoryService: {
    newInlineEditor: ({ model }: { model: { sharedModel: unknown } }) => {
      editor = model as typeof editor;
      return { dispose: () => {}, focus: () => {} };
    }
  }
} as unknown as IEditorServices;
let editor: { sharedModel: { setSource: (text: string) => void } };

/** What a test draws, which looks at the clock until it is disposed of. */
const widgets: Widget[] = [];

afterEach(() => {
  widgets.splice(0).forEach(one => one.dispose());
  Dialog.flush(); // one is shown at a time
  Notification.dismiss();
  document.body.replaceChildren();
});

describe('words', () => {
  it('show a time as a clock there has it, with its offset', () => {
    const words = (text: string) => wall(text, now);
    expect(words('2026-12-01T06:00:00+01:00')).toBe('Tue Dec 1, 06:00 +01:00');
    expect(words('2026-12-01T06:00:10Z')).toBe('Tue Dec 1, 06:00:10 +00:00');
    expect(words('2027-01-01T00:30:00+10:30')).toBe(
      'Fri Jan 1 2027, 00:30 +10:30'
    );
    expect(words(HOSTILE)).not.toContain('\u202e');
  });

  it('say when it fires, and when next', () => {
    const one = schedule();
    expect(whenWords(one)).toBe(
      'At 06:00 on Monday through Friday (Europe/Berlin)'
    );
    expect(whenWords({ ...one, explained: '' })).toBe(
      '0 6 * * MON-FRI (Europe/Berlin)'
    );
    expect(nextWords(one, now, trans)).toBe('next in 3 h');
    const paused = schedule({ active: false, next_time: null });
    expect(nextWords(paused, now, trans)).toBe('paused');
  });

  it('tell what is over from what is paused', () => {
    const off = { active: false, next_time: null };
    const once = { ...off, schedule: 'at 2026-11-30T10:00' };
    expect(isOver(schedule(once), now)).toBe(false); // paused before it fired
    const last_time = '2026-11-30T09:00:00Z';
    expect(isOver(schedule({ ...once, last_time }), now)).toBe(true);
    expect(isOver(schedule({ ...once, misfires: 1 }), now)).toBe(true);
    const past = { ...off, until: '2026-11-30T11:59:59.999999Z' };
    expect(isOver(schedule(past), now)).toBe(true);
    expect(isOver(schedule({ ...past, paused: 'API gone' }), now)).toBe(false);
  });

  it('say what went wrong', () => {
    expect(misfireWords(schedule(), trans)).toBe('');
    expect(misfireWords(schedule({ misfires: 1 }), trans)).toBe(
      '1 firing without a job'
    );
    expect(
      misfireWords(schedule({ misfires: 3, misfire: 'disk full' }), trans)
    ).toBe('3 firings without a job; last: disk full');
  });

  it('put an end into its field, as a clock there shows it', () => {
    const berlin = 'Europe/Berlin';
    expect(typed('2026-12-31T22:59:59.999999Z', berlin)).toBe('2026-12-31');
    expect(typed('2026-12-31T17:00:00Z', berlin)).toBe('2026-12-31T18:00');
    expect(typed(null, berlin)).toBe('');
    expect(typed('2026-12-31T17:00:00Z', 'No/Where')).toBe(
      '2026-12-31T17:00:00Z'
    );
  });

  it('name zones that the server alone knows', () => {
    expect(zones('')).toContain('Europe/Berlin');
    expect(zones('US/Old')).toEqual(expect.arrayContaining(['US/Old', 'UTC']));
  });
});

describe('the form of a schedule', () => {
  it.each([
    ['every 15m', { kind: 'every', every: '15', unit: 'm' }],
    ['at 2026-12-24T18:00', { kind: 'at', at: '2026-12-24T18:00' }],
    ['0 6 * * *', { kind: 'cron', cron: '0 6 * * *' }],
    ['@daily', { kind: 'cron', cron: '@daily' }],
    ['every 1h 30m', { kind: 'cron', cron: 'every 1h 30m' }]
  ])('begins with %s, and asks for the same', (text, fields) => {
    const form = scheduleFormFor(schedule({ schedule: text }));
    expect(form).toMatchObject(fields);
    expect(scheduleText(form)).toBe(text);
    expect(changesOf(form, form)).toEqual({});
  });

  it('asks for what is typed alone', () => {
    const form = scheduleFormFor();
    expect(scheduleRequestOf(form)).toEqual({ schedule: '0 6 * * *' });
    const typed = {
      ...form,
      ...{ name: ' nightly ', kind: 'every' as const, every: '2', unit: 'h' },
      ...{ timezone: 'Asia/Tokyo', overlap: 'queue', catchUp: 'none' },
      ...{ until: '2027-01-01', timeout: '60', retries: '2' }
    };
    expect(scheduleRequestOf(typed)).toEqual({
      name: 'nightly',
      schedule: 'every 2h',
      timezone: 'Asia/Tokyo',
      overlap: 'queue',
      catch_up: 'none',
      until: '2027-01-01',
      timeout: 60,
      retries: 2
    });
  });

  it('changes what was changed, and takes away what was emptied', () => {
    const before = scheduleFormFor(
      schedule({ timeout: 60, until: '2026-12-31T22:59:59.999999Z' })
    );
    expect(changesOf({ ...before, timeout: '', until: '' }, before)).toEqual({
      timeout: null,
      until: null
    });
  });

  it('says what is wrong before the server is asked', () => {
    const form = scheduleFormFor();
    expect(wrongInSchedule(form, trans)).toEqual({});
    const wrong = { ...form, cron: ' ', timeout: '0', retries: '1.5' };
    expect(Object.keys(wrongInSchedule(wrong, trans))).toEqual([
      'when',
      'timeout',
      'retries'
    ]);
    expect(wrongInSchedule({ ...form, kind: 'at' }, trans)).toHaveProperty(
      'when'
    );
  });

  it('leaves defaults to the API, but for what the schedule said before', () => {
    const defaults = { lr: 0.1, layers: [64], toString: 1 };
    const config = { lr: 0.1, layers: [64, 64], seed: 1 };
    expect(overridesOf(config, defaults)).toEqual({
      layers: [64, 64],
      seed: 1
    });
    expect(overridesOf(config, defaults, { lr: 0.5 })).toEqual(config);
  });

  it.each([
    ['there is a schedule until-8 already: choose another name', 'name'],
    ["invalid name of a schedule '8': a letter, then at most 62", 'name'],
    ["there is no time zone 'Mars': did you mean …", 'timezone'],
    ["until is 2026-01-01, before '0 6 * * *' fires first", 'until'],
    ["'61 * * *' has 4 fields, and cron has five", 'when'],
    ["bad minute '61' in '61 * * * *': 0 to 59", 'when'],
    ["every '5s' is too often: the least is every 10s", 'when'],
    ["'at 2020-01-01' is in the past (UTC)", 'when'],
    ["'0 0 31 2 *' never fires: no month has such a day", 'when'],
    ['the disk is full', '']
  ])('knows the field of: %s', (message, field) => {
    expect(scheduleFieldIn(message)).toBe(field);
  });
});

describe('the model', () => {
  it('reads schedules while a view shows them, and again as they change', async () => {
    const wire = new Wire();
    wire.schedules = [schedule()];
    const { model, toldOfSchedules } = wire.tab();
    await model.refresh();
    expect(wire.scheduleReads).toBe(0);
    model.watch();
    await until(() => expect(model.currentSchedules.all).toHaveLength(1));
    expect(model.currentSchedules.hint).toBe('not `installed`');
    const reads = wire.scheduleReads;
    wire.schedules = [];
    toldOfSchedules();
    toldOfSchedules();
    await until(() => expect(model.currentSchedules.all).toHaveLength(0));
    expect(wire.scheduleReads - reads).toBeLessThanOrEqual(2);
    wire.schedules = [schedule({ last_status: 'running' })];
    wire.add({ schedule: 'nightly' });
    await model.local.refresh(); // a job of it is new
    await until(() => expect(model.currentSchedules.all).toHaveLength(1));
  });

  it('asks an older server once, and a cluster never', async () => {
    const wire = new Wire();
    wire.jobs.prod = [];
    const { model, toldOfSchedules } = wire.tab();
    await model.refresh();
    model.watch();
    await until(() => expect(model.currentSchedules.kept).toBe(false));
    toldOfSchedules();
    expect(wire.scheduleReads).toBe(1);
    model.environment = 'prod';
    await model.refresh();
    expect(model.currentSchedules.kept).toBeNull();
    expect(wire.scheduleReads).toBe(1);
  });
});

describe('a list of jobs', () => {
  it('is narrowed to those of a schedule', () => {
    const state = new ViewState();
    const jobs = [
      { job_id: '1', api_name: 'train', schedule: 'nightly' },
      { job_id: '2', api_name: 'train' }
    ].map(one => ({ ...one, status: 'running', config: {} }) as unknown as Job);
    state.set({ schedule: 'nightly' });
    expect(state.pick(jobs).map(job => job.job_id)).toEqual(['1']);
    expect(state.filter.schedule).toBe('nightly');
    expect(state.narrowed).toBe(true);
  });
});

describe('the section', () => {
  let wire: Wire;
  let model: TaskAPIModel;
  let shown: unknown[];

  beforeEach(() => {
    wire = new Wire();
    ({ model } = wire.tab());
    shown = [];
  });

  /** Draw it, and return its rows. */
  async function drawn(...schedules: Schedule[]): Promise<HTMLElement> {
    wire.schedules = schedules;
    const commands = new CommandRegistry();
    const views = {
      showSchedule: (one: unknown) => shown.push(one),
      showJobsOf: (one: unknown) => shown.push(one)
    };
    addScheduleCommands(commands, model, editors, views, trans);
    model.watch();
    await model.refresh();
    const state = new ViewState();
    const widget = ReactWidget.create(
      <ScheduleList {...{ model, state, commands, trans }} />
    );
    widgets.push(widget);
    Widget.attach(widget, document.body);
    await until(() =>
      expect(widget.node.querySelectorAll('li')).toHaveLength(schedules.length)
    );
    return widget.node;
  }

  const press = (node: HTMLElement, label: string) =>
    node.querySelector<HTMLElement>(`[aria-label="${label}"]`)!.click();

  it('says how to make one where there is none', async () => {
    const node = await drawn();
    await until(() =>
      expect(node.textContent).toBe(
        'A schedule submits jobs of an API again and again, at the times that you choose.New schedule'
      )
    );
  });

  it('shows all that there is to know, as text', async () => {
    const job = wire.add({ status: 'worker_error', schedule: 'nightly' });
    wire.end(job, 60, { status: 'worker_error' });
    const node = await drawn(
      schedule({ last_job_id: job.job_id, last_status: 'running' }),
      schedule({
        ...{ name: HOSTILE, api: HOSTILE, explained: HOSTILE },
        ...{ timezone: HOSTILE, active: false, next_time: null },
        ...{ paused: HOSTILE, misfires: 2, misfire: HOSTILE }
      })
    );
    const [first, second] = node.querySelectorAll('li');
    expect(first.textContent).toContain('nightlytrain');
    expect(first.textContent).toContain(
      'At 06:00 on Monday through Friday (Europe/Berlin)'
    );
    expect(first.textContent).toContain('worker error'); // as last seen of the job
    expect(second.textContent).toContain('2 firings without a job; last: <img');
    expect(second.textContent).not.toContain('\u202e');
    expect(node.querySelector('img')).toBeNull();
    expect(node.querySelector('p code')!.textContent).toBe('installed');
  });

  it('pauses, runs, deletes after a question, and shows jobs', async () => {
    const name = 'a/b?c';
    const node = await drawn(schedule({ name }));
    const at = `schedules/${encodeURIComponent(name)}`;
    press(node, 'Active');
    await until(() =>
      expect(
        node.querySelector('[role=switch]')!.getAttribute('aria-checked')
      ).toBe('false')
    );
    expect(wire.bodies).toEqual([{ active: false }]);
    press(node, `Run ${name} now`);
    await until(() => expect(model.local.all).toHaveLength(1));
    press(node, `Show jobs of ${name}`);
    await until(() =>
      expect(shown).toEqual([{ environment: 'local', schedule: name }])
    );
    press(node, `Delete ${name}…`);
    const button = await vi.waitFor(() => {
      const found = document.querySelector<HTMLElement>(
        '.jp-Dialog-button.jp-mod-warn'
      );
      expect(found).not.toBeNull();
      return found!;
    });
    expect(wire.asked).toEqual([`PATCH local/${at}`, `POST local/${at}/run`]);
    button.click();
    await until(() => expect(node.querySelector('li')).toBeNull());
  });

  it('shows what the server refuses', async () => {
    const node = await drawn(schedule());
    const message = 'the API train is gone';
    wire.refusals['POST local/schedules'] = [404, 'api.not_found', message];
    press(node, 'Run nightly now');
    await until(() =>
      expect(
        Notification.manager.notifications.map(one => one.message)
      ).toEqual([message])
    );
  });
});

describe('the sidebar', () => {
  it('has a section of schedules where there may be some, open once there is one', async () => {
    const wire = new Wire();
    wire.jobs.prod = [];
    const { model } = wire.tab();
    const commands = new CommandRegistry();
    const sidebar = new Sidebar({
      ...{ model, commands, editors, trans, translator: nullTranslator },
      rendermime: {} as IRenderMimeRegistry
    });
    const labels = () => sidebar.widgets.map(one => one.title.label);
    const without = ['Task APIs', 'Jobs', 'Job'];
    Widget.attach(sidebar, document.body);
    await until(() => expect(model.currentSchedules.kept).toBe(false));
    expect(labels()).toEqual(without); // an older server
    wire.schedules = [];
    await model.refresh();
    const kept = ['Task APIs', 'Schedules', 'Jobs', 'Job'];
    expect(labels()).toEqual(kept);
    expect(sidebar.widgets.map(one => one.isHidden)).toEqual([
      ...[false, true, false, true]
    ]);
    wire.schedules = [schedule()];
    await model.refresh();
    expect(sidebar.widgets[1].isHidden).toBe(false);
    sidebar.showJobsOf({ environment: 'local', schedule: 'nightly' });
    expect(sidebar.state.schedule).toBe('nightly');
    model.environment = 'prod';
    await model.refresh();
    expect(labels()).toEqual(without);
    expect(sidebar.state.schedule).toBe('');
    model.environment = 'local';
    expect(labels()).toEqual(kept);
    sidebar.dispose();
  });

  it('has its sections as they were left, whatever their numbers were', async () => {
    const wire = new Wire();
    wire.schedules = [schedule()];
    const { model } = wire.tab();
    const commands = new CommandRegistry();
    const open = () => {
      const sidebar = new Sidebar({
        ...{ model, commands, editors, trans, translator: nullTranslator },
        rendermime: {} as IRenderMimeRegistry
      });
      Widget.attach(sidebar, document.body);
      return sidebar;
    };
    const hidden = (sidebar: Sidebar) =>
      sidebar.widgets
        .filter(one => one.isHidden)
        .map(one => one.title.label)
        .join();
    const first = open();
    await until(() => expect(first.widgets).toHaveLength(4));
    expect(hidden(first)).toBe('Job');
    (first.content as AccordionPanel).collapse(1);
    const kept = first.state.toJSON();
    expect(kept.closed).toEqual(['schedules']);
    first.dispose();

    const again = open();
    const panel = again.content as AccordionPanel;
    // As Lab restores four sections while there are three.
    [true, false, true].forEach((isOpen, index) =>
      isOpen ? panel.expand(index) : panel.collapse(index)
    );
    again.state.restore(kept);
    again.restoreSections();
    await model.refresh();
    await until(() => expect(hidden(again)).toBe('Schedules,Job'));
    panel.expand(1);
    expect(again.state.closed).toEqual([]);
    again.dispose();
  });
});

/** Return a field of the dialog by its label. */
function field(label: string): HTMLInputElement {
  const labels = [...document.querySelectorAll('label')];
  const found = labels.find(one => one.textContent === label)!;
  return (
    found.querySelector('input') ??
    (document.getElementById(found.htmlFor) as HTMLInputElement)
  );
}

function type(input: HTMLInputElement, text: string): void {
  const kind = Object.getPrototypeOf(input) as HTMLInputElement;
  Object.getOwnPropertyDescriptor(kind, 'value')!.set!.call(input, text);
  const event = input instanceof HTMLSelectElement ? 'change' : 'input';
  input.dispatchEvent(new Event(event, { bubbles: true }));
}

const accept = () =>
  document
    .querySelector<HTMLElement>('.jp-Dialog-button.jp-mod-accept')!
    .click();

const body = () => document.querySelector('.jp-Dialog-body')!.textContent;

describe('the dialog', () => {
  const apis = ['train', 'other'].map(name => ({
    metadata: { name, kind: 'TaskAPI' },
    spec: { definition: { config: { lr: 0.1, name } } }
  })) as unknown as API[];

  function open(options: Partial<IScheduleOptions>): Promise<boolean> {
    return askToSchedule({
      ...{ apis, editors, trans },
      ask: vi.fn(() => new Promise<never>(() => undefined)),
      save: vi.fn(() => Promise.resolve()),
      ...options
    });
  }

  it('shows the times of the last choice alone, and whose fault an error is', async () => {
    const answers: ((text: string) => void)[] = [];
    const ask = vi.fn(
      ({ schedule, timezone = '' }) =>
        new Promise<never>((_, reject) => {
          answers.push(text => reject(new Error(`${text} ${schedule}`)));
          expect(timezone).toBe('');
        })
    );
    void open({ ask }).catch(() => undefined);
    await until(() => expect(ask).toHaveBeenCalledTimes(1));
    field('Every').click();
    await until(() =>
      expect(ask).toHaveBeenLastCalledWith(
        expect.objectContaining({ schedule: 'every 15m', count: 5 })
      )
    );
    answers[1]('no <b>time</b>:');
    await until(() => expect(body()).toContain('no <b>time</b>: every 15m'));
    answers[0]('too late');
    expect(body()).not.toContain('too late');
    expect(
      document.querySelector('.jp-TaskAPI-When [aria-invalid=true]')
    ).not.toBeNull();
  });

  it('shows both zones where they differ', async () => {
    const times = ['2026-12-01T06:00:00+14:00', '2026-12-02T06:00:00+14:00'];
    const ask = () =>
      Promise.resolve({
        ...{ schedule: '', explained: HOSTILE, times },
        timezone: 'Pacific/Kiritimati'
      });
    void open({ ask }).catch(() => undefined);
    await until(() =>
      expect(body()).toContain('Next in Pacific/KiritimatiHere, in ')
    );
    expect(body()).toMatch(/Tue Dec 1.*, 06:00 \+14:00Mon Nov 30.*, /);
    expect(body()).toContain('the server’s (Pacific/Kiritimati)');
    expect(document.querySelector('.jp-Dialog-body img')).toBeNull();
  });

  it('makes a schedule of what is typed, and stays while it is refused', async () => {
    const save = vi
      .fn()
      .mockRejectedValueOnce(
        new Error('there is a schedule a already: choose another name')
      )
      .mockResolvedValueOnce(undefined);
    const done = open({
      api: 'other',
      config: { lr: 0.5, name: 'other' },
      save
    });
    await until(() => expect(field('API').value).toBe('other'));
    type(field('Name'), 'a');
    type(field('Retries'), 'many');
    accept();
    await until(() => expect(body()).toContain('must be a whole number'));
    expect(save).not.toHaveBeenCalled();
    type(field('Retries'), '1');
    accept();
    await until(() =>
      expect(body()).toContain('there is a schedule a already')
    );
    await until(() =>
      expect(field('Name').getAttribute('aria-invalid')).toBe('true')
    );
    editor.sharedModel.setSource('{"lr": 0.1, "seed": 3}');
    accept();
    expect(await done).toBe(true);
    expect(save.mock.calls).toEqual([
      [
        {
          ...{ api: 'other', name: 'a', schedule: '0 6 * * *' },
          ...{ retries: 1, config: { lr: 0.5 } }
        }
      ],
      [
        {
          ...{ api: 'other', name: 'a', schedule: '0 6 * * *' },
          ...{ retries: 1, config: { seed: 3 } }
        }
      ]
    ]);
  });

  it('changes what was changed', async () => {
    const save = vi.fn(() => Promise.resolve());
    const done = open({ schedule: schedule({ config: { lr: 1 } }), save });
    await until(() => expect(field('Name').disabled).toBe(true));
    type(field('Time zone'), 'Asia/Tokyo');
    accept();
    expect(await done).toBe(true);
    expect(save).toHaveBeenCalledWith({ timezone: 'Asia/Tokyo' });
  });
});

describe('the dialog of a notebook', () => {
  it('schedules it in a tab of its own, where the server keeps schedules', async () => {
    const run = vi.fn(() => Promise.resolve());
    const save = vi.fn(() => Promise.resolve());
    const ask = vi.fn(() => new Promise<never>(() => undefined));
    const options = {
      ...{ notebook: 'a.ipynb', unsaved: false, kernels: [] },
      ...{ served: Promise.resolve(null), hasBlock: false, assigned: null },
      ...{ form: formFor('a.ipynb', 'python3', [], null), trans, run },
      plan: vi.fn()
    };
    void askToRun(options).catch(() => undefined);
    await until(() => expect(field('Timeout (s)')).toBeTruthy());
    expect(document.querySelector('[role=tab]')).toBeNull();
    Dialog.flush();
    await until(() =>
      expect(document.querySelector('.jp-Dialog-body')).toBeNull()
    );

    const done = askToRun({ ...options, schedules: { ask, save } });
    const tabs = await vi.waitFor(() => {
      const found = document.querySelectorAll<HTMLElement>('[role=tab]');
      expect(found).toHaveLength(2);
      return found;
    });
    expect(ask).not.toHaveBeenCalled();
    tabs[1].click();
    await until(() => expect(ask).toHaveBeenCalledTimes(1));
    const button = document.querySelector('.jp-Dialog-button.jp-mod-accept')!;
    expect(button.textContent).toBe('Schedule');
    expect(button.getAttribute('aria-label')).toBe('Schedule');
    type(field('Timeout (s)'), '60');
    type(field('Schedule’s name'), 'weekly');
    accept();
    expect(await done).toBe(true);
    expect(run).not.toHaveBeenCalled();
    expect(save).toHaveBeenCalledWith(
      expect.objectContaining({ name: 'a', timeout: '60' }),
      expect.objectContaining({ name: 'weekly', cron: '0 6 * * *' })
    );
  });
});

describe('commands', () => {
  it('are about the row that is pointed at, and offer what it can do', async () => {
    const wire = new Wire();
    wire.schedules = [schedule({ active: false })];
    const { model } = wire.tab();
    const commands = new CommandRegistry();
    const views = { showSchedule: () => {}, showJobsOf: () => {} };
    addScheduleCommands(commands, model, editors, views, trans);
    model.watch();
    await until(() => expect(model.currentSchedules.all).toHaveLength(1));
    const args = { environment: 'local', schedule: 'nightly' };
    expect(commands.label(CommandIDs.pauseSchedule, args)).toBe('Resume');
    expect(commands.isEnabled(CommandIDs.runSchedule, args)).toBe(true);
    expect(commands.isEnabled(CommandIDs.runSchedule)).toBe(false);
    await commands.execute(CommandIDs.pauseSchedule, args);
    expect(commands.label(CommandIDs.pauseSchedule, args)).toBe('Pause');
  });
});
