import type {
  ICell,
  ICodeCell,
  INotebookContent,
  IOutput,
  IStream,
  MultilineString
} from '@jupyterlab/nbformat';
import { JSONExt } from '@lumino/coreutils';

export function isCode(cell: ICell): cell is ICodeCell {
  return cell.cell_type === 'code';
}

function isStream(output: IOutput): output is IStream {
  return output.output_type === 'stream';
}

/** Return a text that a notebook's file may have as lines. */
export function textOf(text: MultilineString): string {
  return Array.isArray(text) ? text.join('') : text;
}

/** Whether the first code cell has a `# /// script` block, which says what packages the notebook needs (PEP 723). */
export function hasScriptBlock({ cells }: INotebookContent): boolean {
  const first = cells.find(isCode);
  return !!first && /^# \/\/\/ script[ \t]*\r?$/m.test(textOf(first.source));
}

/** Return a notebook's text without outputs and execution counts, as it is deployed. */
export function sourceOf(notebook: INotebookContent): string {
  const cells = notebook.cells.map(cell =>
    isCode(cell) ? { ...cell, outputs: [], execution_count: null } : cell
  );
  return JSON.stringify({ ...notebook, cells });
}

/**
 * Return a cell as it is shown: not trusted, whatever its file says of itself, and not to be edited.
 *
 * Lab runs scripts in the outputs of a trusted cell. A notebook's own server removes that mark where it does not know
 * the notebook; what a job wrote did not come by that way.
 */
export function shown(cell: ICell): ICell {
  const metadata = { ...cell.metadata, trusted: false, editable: false };
  return {
    ...cell,
    metadata,
    source: textOf(cell.source),
    ...(isCode(cell) ? { outputs: cell.outputs.map(joined) } : {})
  };
}

function joined(output: IOutput): IOutput {
  return isStream(output) ? { ...output, text: textOf(output.text) } : output;
}

/** The numbers of a code cell's outputs that are replaced, and the outputs that are added after the last one. */
export interface IOutputsChange {
  /** All outputs are removed first. */
  clear: boolean;
  set: [number, IOutput][];
  add: IOutput[];
}

/** Return how a cell's outputs become others; a stream that grew is added to, which draws only what is new. */
export function outputsChange(
  before: readonly IOutput[],
  after: readonly IOutput[]
): IOutputsChange {
  if (after.length < before.length) {
    return { clear: true, set: [], add: [...after] };
  }
  const change: IOutputsChange = {
    clear: false,
    set: [],
    add: after.slice(before.length)
  };
  before.forEach((output, at) => {
    if (JSONExt.deepEqual(output, after[at])) {
      return;
    }
    const more = at === before.length - 1 ? grown(output, after[at]) : null;
    if (more === null) {
      change.set.push([at, after[at]]);
    } else {
      change.add.unshift({ ...after[at], text: more });
    }
  });
  return change;
}

/** Return what a stream has more than before; null where it is not the same one. */
function grown(before: IOutput, after: IOutput): string | null {
  if (!isStream(before) || !isStream(after) || before.name !== after.name) {
    return null;
  }
  const [old, now] = [textOf(before.text), textOf(after.text)];
  return now.startsWith(old) ? now.slice(old.length) : null;
}
