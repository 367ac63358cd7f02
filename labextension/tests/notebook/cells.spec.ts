import { describe, expect, it } from 'vitest';

import { outputsChange, shown } from '../../src/notebook/cells';

const stream = (text: string | string[], name = 'stdout') => ({
  output_type: 'stream' as const,
  name: name as 'stdout',
  text
});
const data = (text: string) => ({
  output_type: 'display_data' as const,
  data: { 'text/plain': text },
  metadata: {}
});

describe('outputs that change', () => {
  it('are added to where a stream grew', () => {
    expect(outputsChange([stream('a\n')], [stream('a\nb\n')])).toEqual({
      clear: false,
      set: [],
      add: [stream('b\n')]
    });
  });

  it('are left alone where they are the same', () => {
    const outputs = [stream('a'), data('x')];
    expect(outputsChange(outputs, [stream('a'), data('x'), data('y')])).toEqual(
      { clear: false, set: [], add: [data('y')] }
    );
  });

  it('are replaced one by one, or all where there are fewer', () => {
    expect(
      outputsChange([data('x'), data('y')], [data('z'), data('y')])
    ).toEqual({ clear: false, set: [[0, data('z')]], add: [] });
    expect(outputsChange([stream('a')], [stream('b')]).set).toHaveLength(1);
    expect(
      outputsChange([stream('a')], [stream('ab', 'stderr')]).set
    ).toHaveLength(1);
    expect(outputsChange([data('x'), data('y')], [data('y')])).toEqual({
      clear: true,
      set: [],
      add: [data('y')]
    });
  });
});

describe('a cell', () => {
  it('is never trusted, and not to be edited', () => {
    const cell = {
      cell_type: 'code',
      source: ['a\n', 'b'],
      metadata: { trusted: true, tags: ['x'] },
      outputs: [stream(['1\n', '2'])],
      execution_count: 1
    };
    expect(shown(cell)).toEqual({
      ...cell,
      source: 'a\nb',
      metadata: { trusted: false, editable: false, tags: ['x'] },
      outputs: [stream('1\n2')]
    });
    expect(cell.metadata.trusted).toBe(true);
  });
});
