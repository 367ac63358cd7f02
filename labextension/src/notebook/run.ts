import { PathExt } from '@jupyterlab/coreutils';
import type { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import type { INotebookContent } from '@jupyterlab/nbformat';
import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { KernelSpec, ServiceManager } from '@jupyterlab/services';
import type { IStateDB } from '@jupyterlab/statedb';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import type { IJobRef, IScheduleRef } from '../api/client';
import type { KernelEntry } from '../api/contract';
import { LOCAL } from '../api/contract';
import type { TaskAPIModel } from '../model/model';
import type { IScheduleForm } from '../schedule/form';
import { scheduleRequestOf } from '../schedule/form';
import { NAMESPACE } from '../tokens';
import { clean } from '../ui/format';
import { hasScriptBlock } from './cells';
import type { IKernel } from './dialog';
import { askToRun } from './dialog';
import type { IForm } from './form';
import { formFor, planOf, requestOf, submissionOf } from './form';
import { parametersIn } from './parameters';
import type { IPlace } from './paths';
import { placeIn, serverRoot } from './paths';

/** Characters of a kernel's name. */
const LABEL = 80;

/** What shows notebooks, as far as this page has it. */
export interface INotebooks {
  tracker: INotebookTracker | null;
  browsers: IFileBrowserFactory | null;
}

/** Return the path of the notebook that a command is about, null where there is none. */
export function notebookOf(
  args: ReadonlyPartialJSONObject,
  { tracker, browsers }: INotebooks
): string | null {
  if (args.selected) {
    const items = [...(browsers?.tracker.currentWidget?.selectedItems() ?? [])];
    const [first] = items.filter(item => item.type === 'notebook');
    return first?.path ?? null;
  }
  return typeof args.path === 'string'
    ? args.path
    : (tracker?.currentWidget?.context.path ?? null);
}

/** Runs notebooks as jobs, after asking how. */
export class Runner {
  constructor(
    private readonly model: TaskAPIModel,
    private readonly services: ServiceManager.IManager,
    private readonly tracker: INotebookTracker | null,
    private readonly stateDB: IStateDB | null,
    private readonly trans: TranslationBundle
  ) {}

  /**
   * Ask how to run a notebook, and run or schedule it; return the job or the schedule, null where the user thought
   * better of it.
   */
  async run(path: string): Promise<IJobRef | IScheduleRef | null> {
    const { services, trans, stateDB } = this;
    const place = this.placeOf(path);
    const panel = this.tracker?.find(one => one.context.path === path);
    const notebook = await this.read(path, panel);
    const assigned = parametersIn(notebook);
    await services.kernelspecs.ready;
    const specs = services.kernelspecs.specs;
    const own = String(
      notebook.metadata.kernelspec?.name ?? specs?.default ?? ''
    );
    const { client } = this.model;
    const served = client.kernels(LOCAL).then(
      ({ kernels }) => kernels,
      () => null // an older server has no packages either
    );
    const kernels = kernelsOf(specs, null, own, trans);
    const key = `${NAMESPACE}:run:${path}`;
    const form = formFor(path, own, assigned ?? [], await stateDB?.fetch(key));
    if (!kernels.some(({ name }) => name === form.kernel)) {
      form.kernel = own; // the one of the last time is gone
    }
    const schedules = this.model.schedules(LOCAL);
    if (schedules.kept === null) {
      await schedules.refresh();
    }
    /** Save and deploy it, and keep what was typed. */
    const deploy = async (form: IForm) => {
      if (panel?.context.model.dirty) {
        await panel.context.save();
      }
      const content = await this.read(path, panel);
      await client.deploy(LOCAL, requestOf(form, content, place));
      return {
        api: form.name.trim(),
        ...submissionOf(form, assigned ?? [], place)
      };
    };
    let made: IJobRef | IScheduleRef | null = null;
    await askToRun({
      notebook: PathExt.basename(path),
      unsaved: !!panel?.context.model.dirty,
      kernels,
      served: served.then(all => all && kernelsOf(specs, all, own, trans)),
      hasBlock: hasScriptBlock(notebook),
      assigned,
      form,
      trans,
      plan: form => client.plan(LOCAL, planOf(form, path, notebook, place)),
      run: async form => {
        const { api, ...submission } = await deploy(form);
        const { job_id: id } = await client.submit(LOCAL, api, submission);
        made = { environment: LOCAL, api, id };
        await stateDB?.save(key, { ...form });
      },
      schedules: schedules.kept
        ? {
            ask: query => client.previewSchedule(LOCAL, query),
            save: async (form: IForm, when: IScheduleForm) => {
              const { name: schedule } = await client.createSchedule(LOCAL, {
                ...scheduleRequestOf(when),
                ...(await deploy(form))
              });
              made = { environment: LOCAL, schedule };
              await stateDB?.save(key, { ...form });
            }
          }
        : undefined
    });
    return made;
  }

  /** Return where a notebook is on the server's disk, or throw a sentence that says why it is on none. */
  private placeOf(path: string): IPlace {
    const { contents } = this.services;
    const drive = contents.driveName(path);
    const root = serverRoot();
    if ((drive && drive !== 'RTC') || !root) {
      throw new Error(
        this.trans.__(
          '%1 is not in a folder of the server’s disk, where a job could read it: copy it there first.',
          path
        )
      );
    }
    return placeIn(root, contents.localPath(path));
  }

  /** Return a notebook as it was saved. */
  private async read(
    path: string,
    panel: NotebookPanel | undefined
  ): Promise<INotebookContent> {
    if (panel) {
      await panel.context.ready;
      return panel.context.model.toJSON() as INotebookContent;
    }
    const file = await this.services.contents.get(path, {
      type: 'notebook',
      content: true
    });
    return file.content as INotebookContent;
  }
}

/**
 * Return the kernels to choose from, the notebook's own first, also where it is not installed.
 *
 * @param served those that the server starts jobs with; null where it doesn't say.
 */
export function kernelsOf(
  specs: KernelSpec.ISpecModels | null,
  served: readonly KernelEntry[] | null,
  own: string,
  trans: TranslationBundle
): IKernel[] {
  const found = new Map<string, IKernel>();
  for (const [name, spec] of Object.entries(specs?.kernelspecs ?? {})) {
    found.set(name, {
      name,
      label: spec?.display_name ?? name,
      ...(served && {
        problem: trans.__('The server finds no kernelspec of this name.')
      })
    });
  }
  for (const { name, display_name: label, problem } of served ?? []) {
    found.set(name, { name, label, problem });
  }
  const all = [...found.values()].map(one => ({
    ...one,
    label: one.problem
      ? trans.__('%1 (can’t be started here)', clean(one.label, LABEL))
      : clean(one.label, LABEL)
  }));
  const isOwn = (one: IKernel) => one.name === own;
  const others = all
    .filter(one => !isOwn(one))
    .sort((one, other) => one.label.localeCompare(other.label));
  const first = all.find(isOwn) ?? {
    name: own,
    label: own
      ? trans.__('%1 (not installed)', clean(own, LABEL))
      : trans.__('none')
  };
  return [first, ...others];
}
