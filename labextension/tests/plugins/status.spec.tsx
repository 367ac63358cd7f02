import { nullTranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { TaskAPIModel } from '../../src/model/model';
import { JobCount } from '../../src/plugins/status';
import { NAMESPACE } from '../../src/tokens';
import { Wire } from './wire';

let wire: Wire;
let model: TaskAPIModel;
let item: JobCount;
const open = vi.fn();

beforeEach(() => {
  wire = new Wire();
  ({ model } = wire.tab());
  item = new JobCount(model, nullTranslator.load(NAMESPACE), open);
  Widget.attach(item, document.body);
});

afterEach(() => {
  item.dispose();
  open.mockClear();
});

async function shows(text: string): Promise<HTMLButtonElement> {
  return vi.waitFor(() => {
    const button = item.node.querySelector('button')!;
    expect(button.textContent).toBe(text);
    return button;
  });
}

describe('the status bar’s item', () => {
  it('has nothing to say while no job is in progress', async () => {
    const job = wire.add();
    wire.end(job, 1);
    await model.refresh();
    expect(item.active).toBe(false);
  });

  it('counts what runs and what waits, and shows the sidebar', async () => {
    const changed = vi.fn();
    item.activeChanged.connect(changed);
    const jobs = [wire.add(), wire.add(), wire.add({ status: 'pending' })];
    await model.refresh();
    expect(item.active).toBe(true);
    const button = await shows('2 running, 1 pending');
    expect(button.title).toBe(
      'Jobs on this machine: 2 running, 1 pending. Show jobs.'
    );
    expect(button.getAttribute('aria-label')).toBe(button.title);
    button.click();
    expect(open).toHaveBeenCalledTimes(1);

    wire.end(jobs[0], 1);
    wire.end(jobs[1], 1);
    await model.refresh();
    await shows('1 pending');
    wire.end(jobs[2], 2);
    const before = changed.mock.calls.length;
    await model.refresh();
    expect(item.active).toBe(false);
    expect(changed.mock.calls.length).toBe(before + 1);
  });

  it('counts a group as one, and says how far it is', async () => {
    wire.add();
    const group = wire.addGroup({
      counts: { succeeded: 9, running: 2, pending: 1 }
    });
    await model.refresh();
    const button = await shows('1 running, 1 group (50 %)');
    expect(button.title).toBe(
      'Jobs on this machine: 1 running, 1 group (50 %)\ng<b>1</b>: 9/12 · 2 running. Show jobs.'
    );
    wire.addGroup({ counts: { running: 1 }, progress: 0.2 });
    wire.move(group, { succeeded: 10, running: 2 });
    await model.refresh();
    await shows('1 running, 2 groups (35 %)');
  });

  it('says that the server is away, and when it is back', async () => {
    wire.add();
    wire.away = true;
    await model.refresh();
    const button = await shows('server unreachable');
    expect(button.title).toContain('can’t be reached');
    wire.away = false;
    await model.refresh();
    await shows('1 running');
  });
});
