import type { ICodeCellModel } from '@jupyterlab/cells';
import type { ICell } from '@jupyterlab/nbformat';
import type { INotebookModel } from '@jupyterlab/notebook';

import { isCode, outputsChange } from './cells';

/** Return the cells after some of them changed; null where others than these are missing. */
export function changedCells(
  before: readonly ICell[],
  total: number,
  changes: readonly (readonly [number, ICell])[]
): ICell[] | null {
  const cells = before.slice(0, total);
  for (const [index, cell] of changes) {
    cells[index] = cell;
  }
  return Array.from(cells).includes(undefined as never) || cells.length < total
    ? null
    : cells;
}

/** Make a notebook's cells, which are as `before`, others; what has not changed is left alone. */
export function patch(
  model: INotebookModel,
  before: readonly ICell[],
  after: readonly ICell[]
): void {
  const { sharedModel, cells } = model;
  const there = [...before];
  after.forEach((cell, at) => {
    if (there[at] === cell) {
      return;
    }
    const found = there.findIndex((one, i) => i >= at && isSame(one, cell));
    if (found < 0) {
      sharedModel.insertCell(at, cell as never);
      there.splice(at, 0, cell);
      return;
    }
    if (found > at) {
      sharedModel.deleteCellRange(at, found);
      there.splice(at, found - at);
    }
    patchCell(cells.get(at) as ICodeCellModel, there[at], cell);
  });
  if (sharedModel.cells.length > after.length && after.length) {
    sharedModel.deleteCellRange(after.length, sharedModel.cells.length);
  }
  model.dirty = false;
}

function isSame(one: ICell, other: ICell): boolean {
  return one.id === other.id && one.cell_type === other.cell_type;
}

function patchCell(model: ICodeCellModel, before: ICell, after: ICell): void {
  if (before.source !== after.source) {
    model.sharedModel.setSource(after.source as string);
  }
  if (!isCode(before) || !isCode(after)) {
    return;
  }
  if (before.execution_count !== after.execution_count) {
    model.sharedModel.execution_count = after.execution_count;
  }
  const { outputs } = model;
  const { clear, set, add } =
    outputs.length === before.outputs.length
      ? outputsChange(before.outputs, after.outputs)
      : { clear: true, set: [], add: after.outputs };
  if (clear) {
    outputs.clear();
  }
  set.forEach(([at, output]) => outputs.set(at, output));
  add.forEach(output => outputs.add(output));
}
