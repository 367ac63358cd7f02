import type { JupyterFrontEnd } from '@jupyterlab/application';
import { InputDialog, Notification } from '@jupyterlab/apputils';
import { PathExt } from '@jupyterlab/coreutils';
import type { INotebookContent } from '@jupyterlab/nbformat';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import {
  closeIcon,
  fastForwardIcon,
  kernelIcon,
  notebookIcon,
  saveIcon
} from '@jupyterlab/ui-components';

import type { IJobRef } from '../api/client';
import type { Job } from '../api/contract';
import { keepsKernel } from '../api/contract';
import { jobCommands, STAYS } from '../commands';
import type { TaskAPIModel } from '../model/model';
import { CommandIDs } from '../tokens';
import { ask } from '../ui/ask';
import { contentsPath, copyName, serverRoot } from './paths';

/** Add the commands about the notebook of a job; `open` shows its tab. */
export function addNotebookCommands(
  { commands, serviceManager: { contents, sessions } }: JupyterFrontEnd,
  model: TaskAPIModel,
  open: (ref: IJobRef, name: string) => Promise<void>,
  trans: TranslationBundle
): void {
  const add = jobCommands(commands, model);
  const jobOf = ({ environment, id }: IJobRef) =>
    model.jobs(environment).get(id);
  const has = ({ environment }: IJobRef, job: Job | undefined) =>
    !!job && model.jobs(environment).notebookOf(job) !== null;
  const nameOf = (ref: IJobRef) => {
    const job = jobOf(ref);
    const name = job && model.jobs(ref.environment).notebookOf(job);
    return name ?? 'notebook.ipynb';
  };
  const keeps = (_: IJobRef, job: Job | undefined) => !!job && keepsKernel(job);

  add(
    CommandIDs.openNotebook,
    trans.__('Open Notebook of Job'),
    trans.__('Show the notebook that a job runs, as it is now'),
    notebookIcon,
    has,
    async ref => {
      if (!jobOf(ref)) {
        await model.jobs(ref.environment).refreshJob(ref.id); // as after a reload
      }
      await open(ref, nameOf(ref));
    }
  );

  add(
    CommandIDs.saveNotebook,
    trans.__('Save a Copy of the Notebook…'),
    trans.__('Save the notebook of a job, as it is now, as a file'),
    saveIcon,
    has,
    async ref => {
      const { value, button } = await InputDialog.getText({
        title: trans.__('Save a copy'),
        label: trans.__('Path in the file browser'),
        text: copyOf(ref),
        okLabel: trans.__('Save')
      });
      const path = value?.trim();
      if (button.accept && path && (await mayWrite(path))) {
        await save(ref, path);
        Notification.success(trans.__('Saved %1.', path), {
          autoClose: STAYS,
          actions: [
            {
              label: trans.__('Open'),
              callback: () => void commands.execute('docmanager:open', { path })
            }
          ]
        });
      }
    }
  );

  add(
    CommandIDs.attach,
    trans.__('Attach to Kernel of Job'),
    trans.__('Open a copy of the notebook on the kernel that a job keeps'),
    kernelIcon,
    keeps,
    async ref => {
      const { kernel_id: id, hint } = await model.client.kernel(ref);
      if (!id) {
        throw new Error(
          hint ?? trans.__('This server does not list the kernel.')
        );
      }
      const path = copyOf(ref);
      if (!(await exists(path))) {
        await save(ref, path);
      }
      // Lab joins the session of a path. Asked to open a notebook on a kernel, it may start two, and end one with the
      // kernel.
      const kernel: Partial<Kernel.IModel> = { id }; // its type knows names alone, the server both
      const session = await sessions.startNew({
        path,
        name: PathExt.basename(path),
        type: 'notebook',
        kernel
      });
      if (session.kernel?.id !== id) {
        await session.changeKernel({ id }); // there was a session of that path
      }
      session.dispose();
      const panel: NotebookPanel | undefined = await commands.execute(
        'docmanager:open',
        { path, factory: 'Notebook' }
      );
      panel?.addClass('jp-TaskAPI-Attached');
    }
  );

  add(
    CommandIDs.resume,
    trans.__('Go On with Job'),
    trans.__('Run the failed cell again, and those after it'),
    fastForwardIcon,
    keeps,
    ref => askKernel(ref, 'resume')
  );

  add(
    CommandIDs.endKernel,
    trans.__('End Kernel of Job'),
    trans.__('End the kernel that a job keeps, and the job'),
    closeIcon,
    keeps,
    ref => askKernel(ref, 'end-kernel')
  );

  async function askKernel(
    ref: IJobRef,
    what: 'resume' | 'end-kernel'
  ): Promise<void> {
    try {
      await model.client.askKernel(ref, what);
    } finally {
      await model.jobs(ref.environment).refreshJob(ref.id);
    }
  }

  /** Return the path of a copy: beside the notebook that the job was submitted from. */
  function copyOf(ref: IJobRef): string {
    const own = contentsPath(serverRoot(), jobOf(ref)?.notebook ?? '');
    return PathExt.join(
      own === null ? '' : PathExt.dirname(own),
      copyName(nameOf(ref), ref.id)
    );
  }

  async function exists(path: string): Promise<boolean> {
    try {
      await contents.get(path, { content: false });
      return true;
    } catch (error) {
      const { response } = error as { response?: Response };
      if (response?.status === 404) {
        return false;
      }
      throw error;
    }
  }

  async function mayWrite(path: string): Promise<boolean> {
    if (!(await exists(path))) {
      return true;
    }
    return ask(
      trans.__('Overwrite %1?', path),
      trans.__('A file of this name is there already.'),
      trans.__('Overwrite')
    );
  }

  async function save(ref: IJobRef, path: string): Promise<void> {
    const { content } = await model.client.notebook(ref);
    await contents.save(path, {
      type: 'notebook',
      format: 'json',
      content: untrusted(content)
    });
  }
}

/** Return a notebook of which no cell says that it is trusted: the server would sign it. */
export function untrusted(notebook: INotebookContent): INotebookContent {
  const cells = notebook.cells.map(cell => {
    const metadata = { ...cell.metadata };
    delete metadata.trusted;
    return { ...cell, metadata };
  });
  return { ...notebook, cells } as INotebookContent;
}
