import { Dialog } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { afterEach, describe, expect, it, vi } from 'vitest';

import type { IKernel, IRunOptions } from '../../src/notebook/dialog';
import { askToRun } from '../../src/notebook/dialog';
import { formFor } from '../../src/notebook/form';

const trans = nullTranslator.load('');
const kernels: IKernel[] = [
  { name: 'python3', label: 'Python 3' },
  { name: 'ir', label: 'R' }
];

/** Show the dialog, as far as `options` say; return what shows it. */
function shown(options: Partial<IRunOptions>): HTMLElement {
  void askToRun({
    notebook: 'a.ipynb',
    unsaved: false,
    kernels,
    served: Promise.resolve(kernels),
    hasBlock: false,
    assigned: null,
    form: formFor('a.ipynb', 'python3', [], null),
    trans,
    plan: vi.fn(),
    run: vi.fn(),
    ...options
  }).catch(() => undefined); // it is closed by the next test
  return document.body;
}

function select(node: HTMLElement, label: string): HTMLSelectElement {
  const labels = [...node.querySelectorAll('label')];
  const { htmlFor } = labels.find(one => one.textContent === label)!;
  return document.getElementById(htmlFor) as HTMLSelectElement;
}

function choose(node: HTMLElement, label: string, value: string): void {
  const field = select(node, label);
  field.value = value;
  field.dispatchEvent(new Event('change', { bubbles: true }));
}

afterEach(() => {
  Dialog.flush(); // one is shown at a time
});

const until = (seen: () => void) => vi.waitFor(seen, { timeout: 4_000 });

describe('the dialog that runs a notebook', () => {
  it('asks an older server for no plan: it would deploy', async () => {
    const plan = vi.fn(() => Promise.reject(new Error('asked')));
    const node = shown({ served: Promise.resolve(null), plan });
    await until(() => {
      expect(select(node, 'Kernel').options).toHaveLength(2);
      expect(node.textContent).not.toContain('Packages');
    });
    await new Promise(resolve => setTimeout(resolve, 600)); // longer than a choice stays
    expect(plan).not.toHaveBeenCalled();
  });

  it('says what a job will have, of the last choice alone', async () => {
    let answer: (text: string) => void = () => undefined;
    const plan = vi.fn(
      () =>
        new Promise<never>((_, reject) => {
          answer = text => reject(new Error(text));
        })
    );
    const node = shown({ plan });
    await until(() => expect(plan).toHaveBeenCalledTimes(1));
    const first = answer;
    choose(node, 'Packages', 'project');
    choose(node, 'Packages', 'kernel');
    choose(node, 'Packages', 'project');
    await until(() => expect(plan).toHaveBeenCalledTimes(2));
    expect(node.textContent).toContain('resolving…');
    first('too late');
    answer('no <b>requirements.txt</b>');
    await until(() =>
      expect(node.textContent).toContain('no <b>requirements.txt</b>')
    );
    expect(node.textContent).not.toContain('too late');
    expect(select(node, 'Packages').getAttribute('aria-invalid')).toBe('true');
    expect(select(node, 'Kernel').disabled).toBe(true);
  });

  it('says why a kernel can’t be started, and asks nothing', async () => {
    const plan = vi.fn(() => new Promise<never>(() => undefined));
    const problem = 'its program <b>/no/R</b> does not exist';
    const served = [kernels[0], { ...kernels[1], problem }];
    const node = shown({ plan, served: Promise.resolve(served) });
    await until(() => expect(plan).toHaveBeenCalledTimes(1));
    choose(node, 'Kernel', 'ir');
    await until(() => expect(node.textContent).toContain(problem));
    await until(() => expect(node.textContent).not.toContain('resolving…'));
    expect(select(node, 'Kernel').getAttribute('aria-invalid')).toBe('true');
  });
});
