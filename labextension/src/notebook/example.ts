import type { INotebookContent } from '@jupyterlab/nbformat';
import type { ServiceManager } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';

const DEPLOY = `%%taskapi deploy hello
import time

from taskapi_jupyter.job import metric, progress


def hello(name="world", steps=5):
    for step in range(1, steps + 1):
        time.sleep(0.5)
        print("step", step, "of", steps)
        progress(step, steps)
        metric(square=step**2)
    return {"greeting": f"Hello, {name}!", "steps": steps}`;

/** Make a notebook that deploys a task API and submits a job, in a folder of the file browser; return its path. */
export async function newExample(
  { contents, kernelspecs }: ServiceManager.IManager,
  folder: string | undefined,
  trans: TranslationBundle
): Promise<string> {
  await kernelspecs.ready;
  const name = kernelspecs.specs?.default;
  const spec = name ? kernelspecs.specs?.kernelspecs[name] : undefined;
  const { path } = await contents.newUntitled({
    path: folder ?? '',
    type: 'notebook'
  });
  const text = (source: string) => ({
    ...{ id: idOf(), cell_type: 'markdown' as const, metadata: {}, source }
  });
  const code = (source: string) => ({
    id: idOf(),
    cell_type: 'code' as const,
    metadata: {},
    source,
    execution_count: null,
    outputs: []
  });
  const content: INotebookContent = {
    metadata: spec
      ? {
          kernelspec: {
            name: spec.name,
            display_name: spec.display_name,
            language: spec.language
          }
        }
      : {},
    nbformat: 4,
    nbformat_minor: 5,
    cells: [
      text(
        trans.__(
          'A job runs beside this notebook, and goes on when its kernel is busy or gone. Run the cells one after the other, and look at the sidebar: View → Jobs.'
        )
      ),
      code('%load_ext taskapi_jupyter'),
      text(trans.__('This deploys a function under a name:')),
      code(DEPLOY),
      text(trans.__('This submits a job, and does not wait for it:')),
      code('job = %taskapi submit hello name=Ada\njob'),
      text(trans.__('This waits for what it returns:')),
      code('job.result()')
    ]
  };
  await contents.save(path, { type: 'notebook', format: 'json', content });
  return path;
}

/** Return an id for a cell. */
function idOf(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return Array.from(bytes, one => one.toString(16).padStart(2, '0')).join('');
}
