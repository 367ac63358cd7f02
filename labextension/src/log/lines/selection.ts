import type { DrawnRows } from './rows';

/** A place in the text. */
export interface IPlace {
  row: number;
  column: number;
}

/** What is selected of a log, as rows and columns: most of the rows in between are not drawn. */
export class LogSelection {
  constructor(private readonly rows: DrawnRows) {}

  /** Where it was begun and where it ends; null where nothing in here is selected. */
  get places(): [IPlace, IPlace] | null {
    const selection = document.getSelection();
    if (!selection?.anchorNode || !selection.focusNode) {
      return null;
    }
    const from = this.placeOf(selection.anchorNode, selection.anchorOffset);
    const to = this.placeOf(selection.focusNode, selection.focusOffset);
    return from && to && [from, to];
  }

  /** The same, the first place first; null where they are one. */
  get range(): [IPlace, IPlace] | null {
    const places = this.places;
    if (!places) {
      return null;
    }
    const [a, b] = places;
    const order = a.row - b.row || a.column - b.column;
    return order === 0 ? null : order < 0 ? [a, b] : [b, a];
  }

  /** Select from one place to another; both are in rows that are drawn. */
  set([from, to]: [IPlace, IPlace]): void {
    const [a, b] = [this.domOf(from), this.domOf(to)];
    if (a && b) {
      document.getSelection()?.setBaseAndExtent(...a, ...b);
    }
  }

  private placeOf(node: Node, offset: number): IPlace | null {
    const row = this.rows.find(node);
    if (!row) {
      return null;
    }
    const range = document.createRange();
    range.setStart(row.node, 0);
    range.setEnd(node, offset);
    return { row: row.index, column: range.toString().length };
  }

  private domOf({ row, column }: IPlace): [Node, number] | null {
    const node = this.rows.get(row)?.node;
    if (!node) {
      return null;
    }
    const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    let left = column;
    let last: Text | null = null;
    while (walker.nextNode()) {
      last = walker.currentNode as Text;
      if (left <= last.length) {
        return [last, left];
      }
      left -= last.length;
    }
    return last ? [last, last.length] : [node, 0];
  }
}
