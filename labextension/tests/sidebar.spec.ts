import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import type { API, Job } from '../src/api/contract';
import { signatureOf } from '../src/sidebar/parameters';
import { curlOf, magicOf } from '../src/sidebar/snippets';
import { ViewState } from '../src/sidebar/state';
import { defaultsOf, readConfig } from '../src/sidebar/submit';

const trans = nullTranslator.load('');

function job(fields: Partial<Job>): Job {
  return {
    job_id: '00',
    api_name: 'train',
    status: 'succeeded',
    config: null,
    ...fields
  } as Job;
}

describe('readConfig', () => {
  it('takes an object, and nothing for an empty one', () => {
    expect(readConfig(' ', trans)).toEqual({ config: {} });
    expect(readConfig('{"a": [1]}', trans)).toEqual({ config: { a: [1] } });
  });

  it.each(['[1]', '3', 'null', '"text"', '{"a": 1,}', '{} // no'])(
    'refuses %s',
    text => {
      expect(readConfig(text, trans)).toHaveProperty('error');
    }
  );

  it('names the place of a mistake', () => {
    expect(readConfig('{\n  "a": tru\n}', trans)).toEqual({
      error: 'Not valid JSON: invalid symbol (line 2, column 8)'
    });
    expect(readConfig('{"a": 1', trans)).toEqual({
      error: 'Not valid JSON: close brace expected (line 1, column 8)'
    });
  });
});

describe('a task of parameters', () => {
  const api = (definition: object): API => ({ spec: { definition } }) as API;

  it('begins with its defaults, and over them the config of the API', () => {
    const parameters = [
      { name: 'data', required: true },
      { name: 'lr', required: false, default: 0.1 },
      { name: 'opt', required: false, default: { a: 1 } },
      { name: 'seed', required: false, default: 2 ** 60 },
      { name: 'seeds', required: false, default: [{ a: [2 ** 60] }] },
      { name: 'betas', required: false },
      { name: '**rest', required: false }
    ];
    expect(defaultsOf(api({ parameters, config: { opt: 3, x: 1 } }))).toEqual({
      lr: 0.1,
      opt: 3,
      x: 1
    });
    expect(defaultsOf(api({ config: { x: 1 } }))).toEqual({ x: 1 });
    expect(defaultsOf(api({ parameters: 'odd' }))).toEqual({});
    expect(defaultsOf({} as API)).toEqual({});
  });

  it.each([
    [{ name: 'lr', default: 0.1 }, 'lr = 0.1'],
    [{ name: 'lr', type: 'float', default: null }, 'lr: float = null'],
    [{ name: 'betas', type: 'tuple' }, 'betas: tuple = …'],
    [{ name: 'data', type: 'str', required: true }, 'data: str'],
    [{ name: '**rest' }, '**rest'],
    [{ name: 'a', default: 'x'.repeat(90) }, `a = "${'x'.repeat(58)}…`]
  ])('shows %j', (one, text) => {
    expect(signatureOf(one)).toBe(text);
  });
});

describe('ViewState', () => {
  const jobs = [
    job({ job_id: '01', config: { colour: 'Red' }, notebook: 'a/one.ipynb' }),
    job({ job_id: '02', api_name: 'other', status: 'worker_error' }),
    job({ job_id: '03', reason: 'no red ink' })
  ];
  const ids = (state: ViewState) => state.pick(jobs).map(one => one.job_id);

  it('finds all words, wherever they are', () => {
    const state = new ViewState();
    state.set({ search: 'RED' });
    expect(ids(state)).toEqual(['01', '03']);
    state.set({ search: 'red one.ipynb' });
    expect(ids(state)).toEqual(['01']);
    state.set({ search: 'worker error' });
    expect(ids(state)).toEqual(['02']);
  });

  it('filters and sorts without touching what it was given', () => {
    const state = new ViewState();
    state.set({ api: 'train', sort: 'oldest' });
    expect(ids(state)).toEqual(['03', '01']);
    expect(jobs[0].job_id).toBe('01');
  });

  it('restores what was kept, and nothing else', () => {
    const state = new ViewState();
    state.set({ search: 'x', sort: 'status', openAPI: 'train' });
    const again = new ViewState();
    again.restore(JSON.parse(JSON.stringify(state)));
    expect(again.toJSON()).toEqual(state.toJSON());
    again.restore({ search: 5, sort: 'upwards', openAPI: {} });
    expect(again.toJSON()).toEqual(new ViewState().toJSON());
    again.restore('nonsense');
    again.restore(null);
  });
});

describe('snippets', () => {
  it('quotes for a shell', () => {
    expect(curlOf('http://h/x', { it: "isn't" })).toBe(
      `curl -H "Authorization: token $TOKEN" 'http://h/x' -d '{"config":{"it":"isn'"'"'t"}}'`
    );
  });

  it('names the environment where it is not this machine', () => {
    expect(magicOf('local', 'train', {})).toBe('%taskapi submit train');
    expect(magicOf('prod', 'train', { a: 1 })).toBe(
      `%taskapi env prod\n%taskapi submit train --config '{"a":1}'`
    );
  });
});
