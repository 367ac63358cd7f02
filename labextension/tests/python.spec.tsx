import { nullTranslator } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';
import React from 'react';
import { describe, expect, it, vi } from 'vitest';

import type { TaskAPIClient } from '../src/api/client';
import type { API, Interpreter, Job } from '../src/api/contract';
import { notebookAt, PythonFact, requirementsOf } from '../src/sidebar/python';

const HOSTILE = '<img src=x onerror=alert(1)>\u202e';
const trans = nullTranslator.load('');
const now = new Date('2026-03-04T05:06:07Z');

/** Draw the fact, and return what it is drawn in. */
function drawn(python: Interpreter, environments: object[] = []): HTMLElement {
  const packages = vi.fn(() => Promise.resolve({ environments }));
  const widget = ReactWidget.create(
    <dl>
      <PythonFact
        python={python}
        api={{ spec: { definition: { requirements: ['six', HOSTILE] } } }}
        since={now}
        absent="built when its next job starts"
        environment="local"
        client={{ packages } as unknown as TaskAPIClient}
        now={now}
        trans={trans}
      />
    </dl>
  );
  Widget.attach(widget, document.body);
  return widget.node;
}

describe('the Python of a task', () => {
  it('is its version, and its path is the title', async () => {
    const node = drawn({ path: '/usr/bin/python3', version: '3.11.7' });
    await vi.waitFor(() => expect(node.textContent).toBe('Python3.11.7'));
    expect(node.querySelector('span')!.title).toBe('/usr/bin/python3');
  });

  it('has an environment, with what was asked for', async () => {
    const key = '1a2b3c4d5e6f';
    const python = { path: '/p/bin/python', version: '3.11.7', key };
    const before = drawn(python);
    await vi.waitFor(() =>
      expect(before.textContent).toBe(
        'Python3.11.7environment 1a2b3c4d · built when its next job starts' +
          'six, <img src=x onerror=alert(1)>\\u202e'
      )
    );
    const built = '2026-03-04T05:00:00Z';
    const one = { key, packages: ['six==1'], requirements: ['six>0'] };
    const after = drawn({ ...python, built, seconds: 2 }, [one]);
    await vi.waitFor(() =>
      expect(after.textContent).toBe(
        'Python3.11.7environment 1a2b3c4d · 1 package · from the cachesix>0'
      )
    );
  });

  it('is text, whatever it is', async () => {
    const built = '2026-03-04T05:06:07Z';
    const python = { path: HOSTILE, version: HOSTILE, key: HOSTILE, built };
    const one = { key: HOSTILE, packages: [], requirements: [HOSTILE] };
    const node = drawn(python, [one]);
    await vi.waitFor(() => expect(node.textContent).toContain('0 packages'));
    expect(node.querySelector('img')).toBeNull();
    expect(node.textContent).not.toContain('\u202e');
  });
});

describe('an API', () => {
  const api = (definition: object) =>
    ({ metadata: { name: 'report' }, spec: { definition } }) as never as API;

  it('has requirements', () => {
    const of = (requirements?: unknown) =>
      requirementsOf(api({ requirements }));
    expect(of()).toEqual([]);
    expect(of('none')).toEqual([]);
    expect(of('auto')).toEqual(['auto']);
    expect(of(['six', 5, 'attrs'])).toEqual(['six', 'attrs']);
  });

  it('runs a notebook that the file browser has', () => {
    const job = (api_name: string, notebook?: string) =>
      ({ api_name, notebook }) as Job;
    const jobs = [
      job('other', 'work/report.ipynb'),
      job('report'),
      job('report', 'work/caller.ipynb'),
      job('report', 'work/report.ipynb')
    ];
    expect(notebookAt(api({ path: 'report.ipynb' }), jobs)).toBe(
      'work/report.ipynb'
    );
    expect(notebookAt(api({ path: 'report.py' }), jobs)).toBeNull();
    expect(notebookAt(api({ path: 'a.ipynb' }), jobs)).toBeNull();
  });
});
