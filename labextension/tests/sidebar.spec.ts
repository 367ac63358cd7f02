import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import type { API, Job } from '../src/api/contract';
import { signatureOf } from '../src/sidebar/parameters';
import { mergedOf } from '../src/sidebar/config';
import { isTable } from '../src/sidebar/outputs';
import { differing, resultWords, specialOf } from '../src/sidebar/what';
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

  it('has what is in progress first, unless another order is chosen', () => {
    const some = ['succeeded', 'pending', 'running', 'stopped', 'pending'];
    const all = some.map((status, at) => job({ job_id: `${at}`, status }));
    const state = new ViewState();
    const order = () => state.pick(all).map(one => one.job_id);
    expect(order()).toEqual(['2', '1', '4', '0', '3']);
    state.set({ sort: 'newest' });
    expect(order()).toEqual(['0', '1', '2', '3', '4']);
    state.restore({ sort: 'newest' }); // which an older version kept unasked
    expect(state.sort).toBe('progress');
  });

  it('restores what was kept, and nothing else', () => {
    const state = new ViewState();
    state.set({ search: 'x', sort: 'status', openAPI: 'train' });
    const again = new ViewState();
    again.restore(JSON.parse(JSON.stringify(state)));
    expect(again.toJSON()).toEqual(state.toJSON());
    again.restore({ search: 5, order: 'upwards', openAPI: {} });
    expect(again.toJSON()).toEqual(new ViewState().toJSON());
    again.restore('nonsense');
    again.restore(null);
  });
});

describe('a row', () => {
  it('says what differs from other jobs of its API', () => {
    const jobs = [
      job({ config: { lr: 0.1, data: 'a.csv', layers: [64, 64] } }),
      job({ config: { lr: 0.01, data: 'a.csv', layers: [64, 64] } }),
      job({ config: { lr: 0.1, data: 'a.csv', layers: [64], note: '<b> x' } }),
      job({ api_name: 'other', config: { lr: 1 } }),
      job({ config: { lr: 5, data: 'large' }, config_truncated: true })
    ];
    const keys = differing(jobs);
    const said = jobs.map(one => specialOf(one, keys.get(one.api_name)));
    expect(said).toEqual([
      'lr=0.1 layers=[64,64]',
      'lr=0.01 layers=[64,64]',
      'lr=0.1 layers=[64] note="<b> x"',
      '',
      'lr=5'
    ]);
    expect(specialOf(job({ config: { 'a\u202e': 'b'.repeat(99) } }))).toBe('');
  });

  it('says what is scalar in its result', () => {
    expect(resultWords({ result: 0.93456 })).toBe('0.9346');
    expect(resultWords({ accuracy: 0.5, kind: 'x\ny', ok: true })).toBe(
      'accuracy=0.5 kind=x y ok=true'
    );
    expect(resultWords({})).toBe('');
  });
});

describe('details', () => {
  it('mark what a job overrides', () => {
    const parameters = [
      { name: 'lr', default: 0.1 },
      { name: 'seed', default: 1 },
      { name: 'data' }
    ];
    const own = { n: 2, m: [1] };
    const version = { spec: { definition: { config: own, parameters } } };
    expect(mergedOf({ lr: 0.5, n: 2, data: 'x' }, version)).toEqual([
      { key: 'lr', value: 0.5, replaced: 0.1, isDefault: false },
      { key: 'n', value: 2, isDefault: false },
      { key: 'data', value: 'x', isDefault: false },
      { key: 'm', value: [1], isDefault: false },
      { key: 'seed', value: 1, isDefault: true }
    ]);
    expect(mergedOf({ a: 1 }, null)).toEqual([
      { key: 'a', value: 1, isDefault: false }
    ]);
  });

  it('show a list of flat objects as a table', () => {
    expect(isTable([{ a: 1 }, { a: null, b: 'x' }])).toBe(true);
    expect([[], [{ a: 1 }, { a: [] }], [1], { a: 1 }].map(isTable)).toEqual([
      ...[false, false, false, false]
    ]);
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
