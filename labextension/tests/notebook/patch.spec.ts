import type { ICell } from '@jupyterlab/nbformat';
import { NotebookModel } from '@jupyterlab/notebook';
import { describe, expect, it } from 'vitest';

import { shown } from '../../src/notebook/cells';
import { changedCells, patch } from '../../src/notebook/patch';

const stream = (text: string) => ({
  output_type: 'stream',
  name: 'stdout',
  text
});

function code(id: string, source: string, ...outputs: object[]): ICell {
  return shown({
    id,
    cell_type: 'code',
    source,
    metadata: {},
    outputs: outputs as never,
    execution_count: outputs.length || null
  });
}

function modelOf(cells: ICell[]): NotebookModel {
  const model = new NotebookModel();
  const notebook = { cells, metadata: {}, nbformat: 4, nbformat_minor: 5 };
  model.fromJSON(notebook as never);
  return model;
}

function textsOf(model: NotebookModel): string[] {
  return model.sharedModel.cells.map(cell => cell.getSource());
}

describe('the cells of a notebook whose job runs', () => {
  it('are those from before with what changed', () => {
    const [a, b, c] = [code('a', '1'), code('b', '2'), code('c', '3')];
    expect(changedCells([a, b], 2, [[1, c]])).toEqual([a, c]);
    expect(changedCells([a, b], 1, [])).toEqual([a]);
    expect(changedCells([a], 3, [[2, c]])).toBeNull();
    expect(changedCells([a], 2, [])).toBeNull();
  });

  it('are changed one by one, and the others are left alone', () => {
    const before = [code('a', '1', stream('x')), code('b', '2', stream('y'))];
    const model = modelOf(before);
    const cell = model.cells.get(0);
    const output = (model.cells.get(1) as never as { outputs: never }).outputs;
    patch(model, before, [before[0], code('b', '2', stream('y more'))]);
    expect(model.cells.get(0)).toBe(cell);
    const now = model.cells.get(1) as never as {
      outputs: { length: number; toJSON(): object[] };
    };
    expect(now.outputs).toBe(output);
    expect(now.outputs.toJSON()).toMatchObject([{ text: 'y more' }]);
    expect(model.dirty).toBe(false);
  });

  it('are put between others, and taken away', () => {
    const [a, b, c] = [code('a', '1'), code('b', '2'), code('c', '3')];
    const model = modelOf([a, c]);
    const kept = model.cells.get(1);
    patch(model, [a, c], [b, a, c]);
    expect(textsOf(model)).toEqual(['2', '1', '3']);
    expect(model.cells.get(2)).toBe(kept);
    patch(model, [b, a, c], [b, c]);
    expect(textsOf(model)).toEqual(['2', '3']);
    expect(model.cells.get(1)).toBe(kept);
  });

  it('take the place of the empty one that Lab shows for none', () => {
    const model = modelOf([]);
    expect(textsOf(model)).toEqual(['']);
    patch(model, [], [code('a', '1')]);
    expect(textsOf(model)).toEqual(['1']);
  });
});
