import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { SwitchedOff } from '../../src/plugins/switchedoff';
import { Wire } from './wire';

const trans = nullTranslator.load('');
const SERVER = 'http://localhost:3000/';
const OFF = 'it answered 410 Gone: <b>no</b>\nmore';
let wire: Wire;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  wire = new Wire();
});

afterEach(() => {
  vi.useRealTimers();
  localStorage.clear();
  Notification.dismiss();
});

async function page(server = SERVER) {
  const { model } = wire.tab();
  new SwitchedOff(model, trans, server);
  await model.refresh();
  await vi.advanceTimersByTimeAsync(10_000);
  return model;
}

const told = () =>
  Notification.manager.notifications.map(({ message }) => message);

describe('a name that its receiver has switched off', () => {
  it('is told of once in a browser, and again after it was on', async () => {
    wire.names = [{ name: 'ops', switched_off: OFF }, { name: 'mail' }];
    await page();
    await page();
    expect(told()).toHaveLength(1);
    expect(told()[0]).toContain('Nothing is sent to ops any more');
    expect(told()[0]).not.toContain('\n');
    wire.names = [{ name: 'ops' }];
    await page();
    wire.names = [{ name: 'ops', switched_off: OFF }];
    await page();
    expect(told()).toHaveLength(2);
  });

  it('is told of after a job has ended', async () => {
    wire.names = [{ name: 'ops' }];
    const job = wire.add({ status: 'running' });
    const model = await page();
    expect(told()).toEqual([]);
    wire.names = [{ name: 'ops', switched_off: OFF }];
    wire.end(job, 20);
    await model.refresh();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(told()).toHaveLength(1);
  });

  it('is not looked for where there are no names, or other problems', async () => {
    await page();
    wire.names = [{ name: 'ops', problem: 'unset variable OPS_URL' }];
    await page();
    expect(told()).toEqual([]);
  });
});
