import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { IJobRef } from '../../src/api/client';
import type { Job } from '../../src/api/contract';
import { addCommands } from '../../src/commands';
import type { TaskAPIModel } from '../../src/model/model';
import { refOf } from '../../src/model/model';
import { addGroupCommands } from '../../src/sidebar/groupcommands';
import type { IDraft } from '../../src/sidebar/state';
import { jobOf } from '../../src/targets';
import { CommandIDs, NAMESPACE } from '../../src/tokens';
import { Wire } from './wire';

const HOSTILE = '<img src=x onerror=alert(1)>';

let wire: Wire;
let model: TaskAPIModel;
let commands: CommandRegistry;
let shown: unknown[];
let palette: string[];

beforeEach(() => {
  wire = new Wire();
  ({ model } = wire.tab());
  commands = new CommandRegistry();
  shown = [];
  palette = [];
  const sidebar = {
    show: () => shown.push('sidebar'),
    showJob: (ref: IJobRef) => shown.push(ref),
    openSubmit: (environment: string, api?: string, draft?: IDraft) =>
      shown.push({ environment, api, ...(draft && { draft }) })
  };
  const trans = nullTranslator.load(NAMESPACE);
  const app = { commands } as JupyterFrontEnd;
  addCommands(app, model, sidebar, trans, {
    addItem: ({ command }) => {
      palette.push(command);
      return { dispose: () => {}, isDisposed: false };
    }
  });
  addGroupCommands(commands, model, trans);
});

afterEach(() => {
  document.body.replaceChildren();
  Notification.dismiss();
});

/** Put rows on the page, as the sidebar does. */
function draw(...jobs: Job[]): HTMLElement[] {
  return jobs.map(job => {
    const row = document.body.appendChild(document.createElement('li'));
    const { environment, api, id } = refOf('local', job);
    Object.assign(row.dataset, { environment, api, jobId: id });
    row.append(document.createElement('button'));
    return row;
  });
}

function dialog(): Promise<HTMLElement> {
  return vi.waitFor(() => {
    const found = document.querySelector<HTMLElement>('.jp-Dialog-content');
    expect(found?.querySelector('.jp-Dialog-header')?.textContent).toBeTruthy();
    expect(found!.querySelectorAll('button')).toHaveLength(2);
    return found!;
  });
}

async function answer(button: string): Promise<string> {
  const found = await dialog();
  const text = found.textContent ?? '';
  found.querySelector<HTMLElement>(`button.${button}`)!.click();
  return text;
}

const messages = () =>
  Notification.manager.notifications.map(({ type, message }) => [
    type,
    message
  ]);

describe('which job a command is about', () => {
  it('is that of the arguments, else that with the focus, else the selected one', async () => {
    const [first, second, third] = [wire.add(), wire.add(), wire.add()];
    await model.refresh();
    expect(jobOf({}, model)).toBeNull();
    model.select(first.job_id);
    expect(jobOf({}, model)).toEqual(refOf('local', first));
    const [row] = draw(second);
    row.querySelector('button')!.focus();
    expect(jobOf({}, model)).toEqual(refOf('local', second));
    expect(jobOf({ id: third.job_id }, model)).toEqual(refOf('local', third));
    const elsewhere = { environment: 'prod', api: 'a', id: 'b' };
    expect(jobOf(elsewhere, model)).toEqual(elsewhere);
  });

  it('is, in a context menu, the row that it was opened on, whatever the row shows later', async () => {
    const [first, second] = [wire.add(), wire.add()];
    await model.refresh();
    model.select(first.job_id);
    const [row] = draw(second);
    expect(jobOf({ pointed: true }, model)).toBeNull();
    row.firstChild!.dispatchEvent(new Event('contextmenu', { bubbles: true }));
    row.dataset.jobId = first.job_id;
    expect(jobOf({ pointed: true }, model)).toEqual(refOf('local', second));
    expect(jobOf({}, model)).toEqual(refOf('local', first));
    document.body.dispatchEvent(new Event('contextmenu', { bubbles: true }));
    expect(jobOf({ pointed: true }, model)).toBeNull();
  });
});

describe('what is on offer', () => {
  const offered = (id: string, ref: object) => [
    commands.isEnabled(id, { ...ref }),
    commands.isVisible(id, { ...ref })
  ];

  it('depends on the job', async () => {
    const [running, ended, pending] = [
      wire.add(),
      wire.add(),
      wire.add({ status: 'pending' })
    ];
    wire.end(ended, 1);
    const cluster = wire.add({ environment: 'prod' });
    wire.end(cluster, 1);
    await model.refresh();
    await model.jobs('prod').refresh();
    const here = (job: Job) => refOf('local', job);
    expect(offered(CommandIDs.stop, here(running))).toEqual([true, true]);
    expect(offered(CommandIDs.stop, here(pending))).toEqual([true, true]);
    expect(offered(CommandIDs.stop, here(ended))).toEqual([false, false]);
    expect(offered(CommandIDs.deleteJob, here(running))).toEqual([
      false,
      false
    ]);
    expect(offered(CommandIDs.deleteJob, here(ended))).toEqual([true, true]);
    const there = refOf('prod', cluster);
    expect(offered(CommandIDs.deleteJob, there)).toEqual([false, false]);
    expect(offered(CommandIDs.rerun, there)).toEqual([true, true]);
    expect(offered(CommandIDs.copyId, there)).toEqual([true, true]);
    expect(offered(CommandIDs.purge, { environment: 'prod' })).toEqual([
      false,
      false
    ]);
    expect(offered(CommandIDs.purge, {})).toEqual([true, true]);
  });

  it('is in sight, but disabled, while no job is selected', () => {
    expect(offered(CommandIDs.stop, {})).toEqual([false, true]);
    expect(offered(CommandIDs.deleteAPI, {})).toEqual([false, false]);
  });

  it('is told to toolbars and menus when the selected job ends, not at every look', async () => {
    const job = wire.add();
    await model.refresh();
    model.select(job.job_id);
    const changes = vi.fn();
    commands.commandChanged.connect(changes);
    await model.refresh();
    await model.refresh();
    expect(changes).not.toHaveBeenCalled();
    wire.end(job, 1);
    await model.refresh();
    expect(changes).toHaveBeenCalled();
  });

  it('is described, and offered by the palette', async () => {
    const elsewhere: string[] = [
      CommandIDs.openLog,
      CommandIDs.openJobs,
      CommandIDs.runNotebook,
      CommandIDs.desktop,
      CommandIDs.example,
      CommandIDs.openFile,
      CommandIDs.openNotebook,
      CommandIDs.saveNotebook,
      CommandIDs.attach,
      CommandIDs.resume,
      CommandIDs.endKernel
    ];
    const ids = Object.values(CommandIDs).filter(id => !elsewhere.includes(id));
    for (const id of ids) {
      expect(commands.label(id), id).not.toBe('');
      expect(commands.caption(id), id).not.toBe('');
      const { args } = await commands.describedBy(id);
      expect(args, id).toMatchObject({ type: 'object' });
    }
    expect(new Set(palette).size).toBe(palette.length);
    expect([...elsewhere, ...ids]).toEqual(expect.arrayContaining(palette));
  });
});

describe('commands', () => {
  it('show the sidebar, a job and a form', async () => {
    const job = wire.add({ environment: 'prod' });
    await model.refresh();
    await commands.execute(CommandIDs.show);
    await commands.execute(CommandIDs.submit);
    await commands.execute(CommandIDs.submit, { api: 'train' });
    await commands.execute(CommandIDs.showJob, { ...refOf('prod', job) });
    expect(shown).toEqual([
      'sidebar',
      { environment: 'local', api: undefined },
      { environment: 'local', api: 'train' },
      refOf('prod', job)
    ]);
    expect(model.environment).toBe('prod');
    expect(model.selected?.job_id).toBe(job.job_id);
  });

  it('stop a job without a question, once however often one clicks', async () => {
    const job = wire.add();
    await model.refresh();
    model.select(job.job_id);
    let open = () => {};
    wire.gate = new Promise(resolve => (open = resolve));
    const first = commands.execute(CommandIDs.stop);
    expect(commands.isEnabled(CommandIDs.stop)).toBe(false);
    const second = commands.execute(CommandIDs.stop);
    open();
    await Promise.all([first, second]);
    expect(wire.asked).toEqual([
      `DELETE local/tasks/train?jobID=${job.job_id}`
    ]);
    expect(model.selected?.status).toBe('stopped');
    expect(messages()).toEqual([]);
  });

  it('run a job again and show the new one', async () => {
    const job = wire.add();
    wire.end(job, 1);
    await model.refresh();
    await commands.execute(CommandIDs.rerun, { ...refOf('local', job) });
    const [again] = wire.jobs.local;
    expect(again.job_id).not.toBe(job.job_id);
    expect(model.selected?.job_id).toBe(again.job_id);
    expect(shown).toEqual([refOf('local', again)]);
  });

  it('run a cluster’s job again, which its list alone tells of', async () => {
    const job = wire.add({ environment: 'prod' });
    await model.refresh();
    await model.jobs('prod').refresh();
    await commands.execute(CommandIDs.rerun, { ...refOf('prod', job) });
    expect(wire.asked[0]).toContain(`/rerun?api=train`);
    expect(model.environment).toBe('prod');
    expect(model.selected?.job_id).toBe(wire.jobs.prod[0].job_id);
  });

  it('delete a job after a question whose default is no', async () => {
    const job = wire.add({ api_name: HOSTILE });
    wire.end(job, 1);
    await model.refresh();
    const ref = { ...refOf('local', job) };
    let done: Promise<unknown> = commands.execute(CommandIDs.deleteJob, ref);
    const shown = await dialog();
    expect(shown.textContent).toContain(HOSTILE);
    expect(shown.querySelector('img')).toBeNull();
    await vi.waitFor(() =>
      expect(document.activeElement?.textContent).toBe('Cancel')
    );
    await answer('jp-mod-reject');
    await done;
    expect(wire.asked).toEqual([]);
    expect(model.local.get(job.job_id)).toBeDefined();

    done = commands.execute(CommandIDs.deleteJob, ref);
    await answer('jp-mod-warn');
    await done;
    expect(wire.asked).toEqual([`DELETE local/jobs/${job.job_id}`]);
    expect(model.local.get(job.job_id)).toBeUndefined();
  });

  it('delete all ended jobs, or those of an API, and an API', async () => {
    const [running, ended] = [wire.add(), wire.add()];
    wire.end(ended, 1);
    await model.refresh();
    let done: Promise<unknown> = commands.execute(CommandIDs.purge);
    expect(await answer('jp-mod-warn')).toContain('Delete 1 ended job?');
    await done;
    expect(messages()).toEqual([['info', 'Deleted some jobs.']]);
    expect(model.local.all.map(job => job.job_id)).toEqual([running.job_id]);
    await commands.execute(CommandIDs.purge);
    expect(messages()[0]).toEqual(['info', 'No job has ended.']);
    [wire.add(), wire.add()].forEach(job => wire.end(job, 2));
    done = commands.execute(CommandIDs.purge, { api: 'train' });
    expect(await answer('jp-mod-warn')).toContain('2 ended jobs of train?');
    await done;
    Notification.dismiss();
    done = commands.execute(CommandIDs.deleteAPI, { api: 'train' });
    expect(await answer('jp-mod-warn')).toContain('train');
    await done;
    expect(wire.asked).toEqual([
      'DELETE local/jobs',
      'DELETE local/jobs?api=train',
      'DELETE local/delete/train'
    ]);
    expect(model.local.apis.map(api => api.metadata?.name)).toEqual(['other']);
  });

  it('edit and rerun a job, or copy it as code', async () => {
    const config = { it: ["isn't", true, null], lr: 1e-3 };
    const ref = {
      ...refOf('local', wire.add({ config, timeout: 60 }))
    };
    await model.refresh();
    await commands.execute(CommandIDs.editRerun, ref);
    expect(shown).toEqual([
      {
        ...{ environment: 'local', api: 'train' },
        draft: { api: 'train', config, timeout: 60 }
      }
    ]);
    const copied = vi
      .spyOn(Clipboard, 'copyToSystem')
      .mockReturnValue(undefined);
    await commands.execute(CommandIDs.copyCode, ref);
    expect(copied.mock.calls).toEqual([
      [
        'import taskapi_jupyter\n\njob = taskapi_jupyter.connect("local").submit("train", {"it": ["isn\'t", True, None], "lr": 0.001}, timeout=60)'
      ]
    ]);
    copied.mockRestore();
    const gone = refOf('local', wire.add({ api_name: 'gone' }));
    await model.refresh();
    expect(commands.isEnabled(CommandIDs.editRerun, { ...gone })).toBe(false);
  });

  it('say what was refused in the server’s sentence', async () => {
    const job = wire.add();
    await model.refresh();
    const ref = { ...refOf('local', job) };
    const sentence = `job ${HOSTILE} is gone`;
    wire.refusals['DELETE local/tasks'] = [400, 'job.not_found', sentence];
    wire.refusals['POST'] = [404, 'environment.not_kept', 'not kept here'];
    await commands.execute(CommandIDs.stop, ref);
    await commands.execute(CommandIDs.rerun, ref);
    expect(messages()).toEqual([
      ['info', 'not kept here'],
      ['error', sentence]
    ]);
    wire.away = true;
    await commands.execute(CommandIDs.stop, ref);
    expect(messages()[0]).toEqual([
      'error',
      'The Jupyter server can’t be reached.'
    ]);
    expect(commands.isEnabled(CommandIDs.stop, ref)).toBe(true);
  });
});

describe('commands of a group', () => {
  it('stop it, run its failed jobs again and delete it, each where that fits', async () => {
    const going = wire.addGroup({ counts: { running: 1, pending: 8 } });
    const failed = wire.addGroup({ counts: { worker_oom: 1, succeeded: 8 } });
    await model.refresh();
    const isVisible = (id: string, { id: group }: { id: string }) =>
      commands.isVisible(id, { environment: 'local', group });
    for (const [id, ...fits] of [
      [CommandIDs.stopGroup, true, false],
      [CommandIDs.rerunGroup, false, true],
      [CommandIDs.deleteGroup, false, true],
      [CommandIDs.copyGroup, true, true]
    ] as [string, boolean, boolean][]) {
      expect([going, failed].map(one => isVisible(id, one))).toEqual(fits);
      expect(commands.isVisible(id, {})).toBe(false);
    }
    const row = document.body.appendChild(document.createElement('li'));
    Object.assign(row.dataset, { environment: 'local', groupId: going.id });
    row.dispatchEvent(new MouseEvent('contextmenu', { bubbles: true }));
    await commands.execute(CommandIDs.stopGroup, { pointed: true });
    expect(model.local.getGroup(going.id)?.counts).toEqual({ stopped: 9 });
    const args = { environment: 'local', group: failed.id };
    await commands.execute(CommandIDs.rerunGroup, args);
    expect(messages()).toEqual([
      ['info', 'Submitted 1 job again, as group g<b>3</b>']
    ]);
    expect(model.local.groups).toHaveLength(3);
    const said = [
      commands.execute(CommandIDs.deleteGroup, args),
      answer('jp-mod-warn')
    ];
    expect((await Promise.all(said))[1]).toContain(
      'Delete group g<b>2</b>?Its 9 jobs are deleted'
    );
    expect(model.local.getGroup(failed.id)).toBeUndefined();
    expect(wire.asked).toEqual([
      `DELETE local/groups/${going.id}`,
      `POST local/groups/${failed.id}/rerun`,
      `DELETE local/groups/${failed.id}?forget=true`
    ]);
  });
});
