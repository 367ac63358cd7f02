import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import type { IForm } from '../../src/notebook/form';
import {
  fieldIn,
  formFor,
  nameFor,
  packagesOf,
  planOf,
  planWords,
  requestOf,
  requirementsIn,
  submissionOf,
  wrongIn
} from '../../src/notebook/form';
import { contentsPath, placeIn } from '../../src/notebook/paths';
import { kernelsOf } from '../../src/notebook/run';
import { assignedIn } from '../../src/notebook/parameters';

const trans = nullTranslator.load('');
const assigned = assignedIn('lr = 0.1\nname = "a"\nseed = None\nbig = (1, 2)');
const fresh = (last?: unknown) =>
  formFor('work/Report 1.ipynb', 'python3', assigned, last);
const place = placeIn('/home/me', 'work/Report 1.ipynb');

describe('the form that runs a notebook', () => {
  it('begins with the name of its file', () => {
    expect(nameFor('a/b/Monthly Report (2).ipynb')).toBe('monthly-report-2');
    expect(nameFor('01-start.ipynb')).toBe('notebook-01-start');
    expect(nameFor(`${'x'.repeat(62)} y.ipynb`)).toBe('x'.repeat(62));
  });

  it('begins with what was typed the last time, as far as that fits', () => {
    const last = {
      name: 'other',
      html: true,
      timeout: 5,
      parameters: { lr: '0.5', gone: '1', name: 2 },
      constructor: 'x'
    };
    expect(fresh(last)).toEqual({
      ...fresh(),
      name: 'other',
      html: true,
      parameters: { lr: '0.5' }
    });
  });

  it('says which field is wrong', () => {
    const form: IForm = {
      ...fresh(),
      name: ' ',
      timeout: '1.5',
      parameters: { lr: 'abc', seed: 'nul' }
    };
    expect(Object.keys(wrongIn(form, assigned, trans))).toEqual([
      'name',
      'timeout',
      'parameters.lr',
      'parameters.seed'
    ]);
    expect(wrongIn(fresh(), assigned, trans)).toEqual({});
  });

  it('submits what differs from the notebook, typed', () => {
    const parameters = { lr: '0.1', name: '5', seed: '7' };
    const form = { ...fresh(), parameters, timeout: '60' };
    expect(submissionOf(form, assigned, place)).toEqual({
      config: { name: '5', seed: 7 },
      timeout: 60,
      notebook: '/home/me/work/Report 1.ipynb'
    });
  });

  it('deploys the cells without what running them left', () => {
    const notebook = {
      nbformat: 4,
      nbformat_minor: 5,
      metadata: {},
      cells: [
        {
          cell_type: 'code',
          source: '1',
          metadata: {},
          outputs: [{ output_type: 'stream', name: 'stdout', text: 'x' }],
          execution_count: 3
        }
      ]
    };
    const form = { ...fresh(), memory: ' 2Gi ', html: true, keep: true };
    const request = requestOf(form, notebook, place);
    expect(request.spec).toEqual({
      name: 'report-1',
      kind: 'TaskAPI',
      definition: {
        path: 'Report 1.ipynb',
        kernel: 'python3',
        outputs: ['html'],
        keep_kernel: 1800
      },
      compute: { mem: '2Gi' }
    });
    expect(request.cwd).toBe('/home/me/work');
    expect(JSON.parse(request.source!).cells[0]).toMatchObject({
      outputs: [],
      execution_count: null
    });
  });

  it('asks for packages as they are chosen', () => {
    const cell = (source: string, cell_type = 'code') => ({
      ...{ cell_type, source, metadata: {} },
      ...(cell_type === 'code' ? { outputs: [], execution_count: null } : {})
    });
    const block = '# /// script\n# dependencies = ["six"]\n# ///\n';
    const book = (...cells: object[]) =>
      ({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells }) as never;
    const plain = book(cell('1'), cell(block));
    const own = book(cell(block, 'markdown'), cell(`\n${block}`));
    const asked = (notebook: never, form: Partial<IForm>) => {
      const { spec } = requestOf({ ...fresh(), ...form }, notebook, place);
      const { definition } = spec as { definition: { [key: string]: unknown } };
      const { kernel, requirements, script_metadata } = definition;
      return [kernel, requirements, script_metadata];
    };
    expect(asked(plain, {})).toEqual(['python3', undefined, undefined]);
    expect(asked(own, {})).toEqual([undefined, undefined, undefined]);
    expect(asked(own, { packages: 'kernel' })).toEqual([
      'python3',
      undefined,
      false
    ]);
    expect(asked(plain, { packages: 'project' })).toEqual([
      undefined,
      'auto',
      undefined
    ]);
    const requirements =
      'numpy # the newest\n\n# none\n a @ https://h/a#b=c \n';
    expect(asked(own, { packages: 'list', requirements })).toEqual([
      undefined,
      ['numpy', 'a @ https://h/a#b=c'],
      false
    ]);
    expect(requirementsIn(' # ')).toEqual([]);
    const wrong = wrongIn({ ...fresh(), packages: 'list' }, [], trans);
    expect(Object.keys(wrong)).toEqual(['packages']);
    // What is kept and does not fit any more is the default
    expect(packagesOf({ packages: 'script' }, false)).toBe('kernel');
    expect(packagesOf({ packages: 'odd' as never }, true)).toBe('script');
    // Whatever is typed beside them, nothing else can be wrong with what asks for a plan
    const form = { ...fresh(), name: 'A B', memory: '2', requirements };
    expect(planOf(form, 'A b.ipynb', plain, place).spec).toEqual({
      name: 'a-b',
      kind: 'TaskAPI',
      definition: { path: 'Report 1.ipynb', kernel: 'python3' }
    });
  });

  it('says which Python and packages a job will have', () => {
    const python = { path: '/usr/bin/python3', version: '3.11.7' };
    const plan = (part: object) =>
      planWords({ ...{ python, requirements: [] }, ...part } as never, trans);
    expect(plan({})).toBe(
      'Python 3.11.7 · the packages that are installed there'
    );
    expect(plan({ packages: ['six==1.17.0'] })).toBe(
      'Python 3.11.7 · 1 package: six 1.17.0'
    );
    const many = Array.from({ length: 12 }, (_, at) => `p${at}==1`);
    expect(plan({ packages: many })).toBe(
      'Python 3.11.7 · 12 packages: p0 1, p1 1, p2 1, p3 1, p4 1, p5 1, p6 1, p7 1 and 4 more'
    );
    const requirements = ['P_11>=1', 'P10[x]'];
    const packages = [...many.slice(0, 11), 'p-11==1'];
    expect(plan({ packages, requirements })).toMatch(/: p10 1, p-11 1, p0 1, /);
    expect(plan({ requirements: ['a\u202e<b>'] })).toBe(
      'Python 3.11.7 · resolved when the job starts: a\\u202e<b>'
    );
    expect(plan({ python: { path: '/' }, kernel: 'i<r>' })).toMatch(/^i<r> · /);
  });

  it('offers the kernels, and says which of them can’t be started', () => {
    const spec = (display_name: string) => ({ display_name }) as never;
    const specs = {
      default: 'python3',
      kernelspecs: { python3: spec('Python 3'), ir: spec('R'), go: spec('Go') }
    };
    const entry = (name: string, display_name: string, problem?: string) => ({
      ...{ name, display_name, language: 'python' },
      ...(problem ? { problem } : {})
    });
    const served = [
      entry('python3', 'Python 3'),
      entry('ir', 'R', 'its program /usr/bin/R does not exist'),
      entry('conda', 'Conda \u202e<b>')
    ];
    const of = (all: typeof served | null, own = 'python3') =>
      kernelsOf(specs, all, own, trans).map(({ label }) => label);
    expect(of(null)).toEqual(['Python 3', 'Go', 'R']);
    expect(of(null, 'gone')[0]).toBe('gone (not installed)');
    expect(of(served, 'ir')).toEqual([
      'R (can’t be started here)',
      'Conda \\u202e<b>',
      'Go (can’t be started here)',
      'Python 3'
    ]);
    const problems = kernelsOf(specs, served, 'ir', trans).map(
      ({ problem }) => problem
    );
    expect(problems).toEqual([
      'its program /usr/bin/R does not exist',
      undefined,
      'The server finds no kernelspec of this name.',
      undefined
    ]);
  });

  it('shows a sentence of the server at the field that it is about', () => {
    const field = (text: string) => fieldIn(text, assigned);
    expect(field("there is no kernel 'x'; there are: python3")).toBe('kernel');
    expect(field('report: compute.mem must have a unit')).toBe('memory');
    expect(field("invalid API name 'A': use a letter")).toBe('name');
    expect(field("definition.config: 'lr' must be …")).toBe('parameters.lr');
    expect(field("the kernel's Python has no package 'x'")).toBe('packages');
    expect(field('the disk is full')).toBe('');
  });
});

describe('a path', () => {
  it('leads from the file browser to the disk, and back', () => {
    expect(placeIn('/', 'a.ipynb')).toEqual({ folder: '/', name: 'a.ipynb' });
    expect(contentsPath('/home/me', '/home/me/work/a.ipynb')).toBe(
      'work/a.ipynb'
    );
    expect(contentsPath('/', '/a.ipynb')).toBe('a.ipynb');
    expect(contentsPath('/home/me', '/home/mean/a.ipynb')).toBeNull();
    expect(contentsPath('/home/me', 'work/a.ipynb')).toBe('work/a.ipynb');
    expect(contentsPath('', '/home/me/a.ipynb')).toBeNull();
  });
});
