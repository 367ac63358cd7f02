import { describe, expect, it } from 'vitest';

import {
  assignedIn,
  fieldOf,
  kindOf,
  parametersIn,
  valueOf
} from '../../src/notebook/parameters';

const TEXT = `# What to run
lr: float = 0.1  # step size
data = 's3://bucket\\'s # no comment'  # where to read <b>from</b>
layers = [64,  # the first
          32,
]
nested = {"a": (1, 2), 'b': {"c": None}}
one = (1)
verbose = True
steps = 1_000
big = 12345678901234567890
cutoff = 2 ** 3  # an expression
text = f"{lr}"
raw = "a\\qb"
a, b = 1, 2
if x == 1:
    inner = 2
x.y = 3
lr == 2
größe = -1e-3
last = [1, 2`;

describe('the cell tagged parameters', () => {
  const found = new Map(assignedIn(TEXT).map(one => [one.name, one]));

  it('is read where it assigns literals', () => {
    const values = [...found].map(([name, one]) => [name, one.value]);
    expect(Object.fromEntries(values)).toEqual({
      lr: 0.1,
      data: "s3://bucket's # no comment",
      layers: [64, 32],
      nested: { a: [1, 2], b: { c: null } },
      one: 1,
      verbose: true,
      steps: 1000,
      big: undefined,
      cutoff: undefined,
      text: undefined,
      raw: undefined,
      größe: -0.001,
      last: undefined
    });
  });

  it('says what its comments say, and shows what is no literal', () => {
    expect(found.get('lr')!.help).toBe('step size');
    expect(found.get('data')!.help).toBe('where to read <b>from</b>');
    expect(found.get('verbose')!.help).toBe('');
    expect(found.get('cutoff')).toMatchObject({
      source: '2 ** 3',
      help: 'an expression'
    });
    expect(found.get('text')!.source).toBe('f"{lr}"');
  });

  it('gives the last value where a name is assigned twice', () => {
    expect(assignedIn('x = 1\nx = 2  # better\r\n')).toEqual([
      { name: 'x', source: '2', value: 2, help: 'better' }
    ]);
  });

  it('is one of Python, and of code', () => {
    const cell = {
      cell_type: 'code',
      source: ['a = 1\n', 'b = 2'],
      metadata: { tags: ['parameters'] }
    };
    const notebook = (metadata: object, ...cells: object[]) =>
      ({ metadata, cells, nbformat: 4, nbformat_minor: 5 }) as never;
    expect(parametersIn(notebook({}, cell))).toHaveLength(2);
    expect(parametersIn(notebook({}))).toBeNull();
    expect(
      parametersIn(notebook({}, { ...cell, cell_type: 'markdown' }))
    ).toBeNull();
    const r = { kernelspec: { language: 'R' } };
    expect(parametersIn(notebook(r, cell))).toBeNull();
  });
});

describe('a field of a parameter', () => {
  it('has the type of its default', () => {
    const kinds = assignedIn('a = True\nb = 1\nc = "x"\nd = None\ne = f()');
    expect(kinds.map(kindOf)).toEqual([
      'boolean',
      'number',
      'text',
      'json',
      'json'
    ]);
    expect(kinds.map(fieldOf)).toEqual(['true', '1', 'x', 'null', '']);
  });

  it('gives a value of that type, or none', () => {
    expect(valueOf('text', '0.5')).toBe('0.5');
    expect(valueOf('number', '0.5')).toBe(0.5);
    expect(valueOf('number', '"0.5"')).toBeUndefined();
    expect(valueOf('number', 'NaN')).toBeUndefined();
    expect(valueOf('json', '[1, null]')).toEqual([1, null]);
    expect(valueOf('json', 'abc')).toBeUndefined();
  });
});
