import { ISpan, look, parse, PLAIN } from '../text/ansi';
import type { LogBuffer } from '../text/buffer';
import type { IMatch, LogSearch } from '../text/search';
import type { IAnchor, Scale } from './scale';

const SIZER = 'jp-TaskAPI-log-sizer';
const ROW = 'jp-TaskAPI-log-row';

/** The class of a match. */
export const MATCH = 'jp-TaskAPI-log-match';

/** A row that is drawn. */
export interface IRow {
  index: number;
  node: HTMLElement;
  /** What its drawing depends on, to notice when it is out of date. */
  drawn: string;
  top: number;
  height: number;
}

/** The rows that are drawn: those in view, and those in which a selection begins or ends. */
export class DrawnRows {
  constructor(
    private readonly buffer: LogBuffer,
    private readonly search: LogSearch,
    private readonly scale: Scale
  ) {
    this.node.className = SIZER;
  }

  /** The element that they stand in. */
  readonly node = document.createElement('div');

  /** Rows in which a selection begins or ends. */
  pins: number[] = [];

  /** The match that the user is at. */
  current: IMatch | null = null;

  /** Characters of the longest that was drawn so far. */
  columns = 0;

  get(index: number): IRow | undefined {
    return this._rows.get(index);
  }

  /** Return the row that a node is in. */
  find(node: Node): IRow | undefined {
    return this.node.contains(node)
      ? [...this._rows.values()].find(row => row.node.contains(node))
      : undefined;
  }

  /** Forget all. */
  clear(): void {
    this._rows.forEach(row => row.node.remove());
    this._rows.clear();
    this.pins = [];
    this.current = null;
    this.columns = 0;
  }

  /**
   * Draw these rows and the pinned ones, no others; true if a pinned one was drawn again, which loses the selection.
   */
  keep(first: number, last: number): boolean {
    const pins = this.pins.filter(
      row => (row < first || row >= last) && row < this.scale.rows
    );
    for (const [index, row] of this._rows) {
      if ((index < first || index >= last) && !pins.includes(index)) {
        row.node.remove();
        this._rows.delete(index);
      }
    }
    let isStale = false;
    const wanted = [
      ...pins,
      ...Array.from({ length: last - first }, (_, at) => first + at)
    ].sort((a, b) => a - b);
    let next: ChildNode | null = this.node.firstChild;
    for (const index of wanted) {
      let row = this._rows.get(index);
      if (!row) {
        row = this.newRow(index);
        this._rows.set(index, row);
        this.node.insertBefore(row.node, next);
      } else {
        next = row.node.nextSibling;
      }
      const nth = this.current?.row === index ? this.current.nth : '';
      const drawn = `${this.buffer.length(index)} ${this.search.query} ${nth}`;
      if (drawn !== row.drawn) {
        isStale ||= row.drawn !== '' && this.pins.includes(index);
        row.drawn = drawn;
        this.draw(row);
      }
    }
    return isStale;
  }

  /** Place each drawn row. */
  place(anchor: IAnchor, first: number, last: number): void {
    const { line, wrap, extent } = this.scale;
    if (wrap) {
      for (const row of this._rows.values()) {
        row.height = row.node.offsetHeight || line;
      }
    }
    const start = Math.min(Math.max(anchor.index, first), last);
    const begin = anchor.y + (start - anchor.index) * line;
    const tops = new Map<number, number>();
    for (let index = start, y = begin; index < last; index++) {
      tops.set(index, y);
      y += this._rows.get(index)?.height ?? line;
    }
    for (let index = start - 1, y = begin; index >= first; index--) {
      y -= this._rows.get(index)?.height ?? line;
      tops.set(index, y);
    }
    for (const row of this._rows.values()) {
      // A row that is only kept for a selection must not make the element higher.
      const rough = anchor.y + (row.index - anchor.index) * line;
      const inside = Math.min(Math.max(rough, 0), Math.max(extent - line, 0));
      this.move(row, tops.get(row.index) ?? inside);
    }
  }

  /** Move all of them. */
  shift(by: number): void {
    if (by) {
      this._rows.forEach(row => this.move(row, row.top + by));
    }
  }

  /** Return the row at the top of the view. */
  seenAt(top: number): IAnchor | null {
    let seen: IRow | null = null;
    for (const row of this._rows.values()) {
      const isAbove = row.top <= top;
      if (isAbove && (!seen || row.top > seen.top) && !this.isStray(row)) {
        seen = row;
      }
    }
    return seen && { index: seen.index, y: seen.top };
  }

  /** Whether a row is drawn only because a selection begins or ends in it. */
  private isStray({ index }: IRow): boolean {
    const { _rows: rows } = this;
    return (
      this.pins.includes(index) && !rows.has(index - 1) && !rows.has(index + 1)
    );
  }

  private newRow(index: number): IRow {
    const node = document.createElement('div');
    node.className = ROW;
    node.classList.toggle('jp-mod-note', this.buffer.isNote(index));
    // What a style sheet draws is neither read out nor copied.
    node.dataset.number = String(this.buffer.number(index) ?? '↪');
    return { index, node, drawn: '', top: NaN, height: this.scale.line };
  }

  private draw({ index, node }: IRow): void {
    const { buffer, search, current } = this;
    const spans = parse(buffer.row(index), buffer.styleAt(index));
    const text = spans.map(span => span.text).join('');
    const nth = current?.row === index ? current.nth : -1;
    node.replaceChildren(
      ...spansOf(spans, search.places(text), search.query.length, nth)
    );
    const columns = text.length + 7 * (text.split('\t').length - 1);
    this.columns = Math.max(this.columns, columns);
  }

  private move(row: IRow, top: number): void {
    if (row.top !== top) {
      row.top = top;
      row.node.style.top = `${top}px`;
    }
  }

  private _rows = new Map<number, IRow>();
}

/** Return the nodes that show spans, the matches in them marked. Only ever text nodes: nothing in a log is HTML. */
export function spansOf(
  spans: readonly ISpan[],
  places: readonly number[],
  length: number,
  current: number
): Node[] {
  const nodes: Node[] = [];
  let at = 0;
  let match = 0;
  for (const { text, style } of spans) {
    for (let from = 0; from < text.length;) {
      while (match < places.length && places[match] + length <= at + from) {
        match += 1;
      }
      const begin = (places[match] ?? Infinity) - at;
      const isMatch = begin <= from;
      const to = Math.min(isMatch ? begin + length : begin, text.length);
      const words = document.createTextNode(text.slice(from, to));
      const node = styled(words, style);
      if (isMatch) {
        const mark = document.createElement('mark');
        mark.className = MATCH;
        mark.classList.toggle('jp-mod-current', match === current);
        mark.append(words);
        nodes.push(mark);
      } else {
        nodes.push(node);
      }
      from = to;
    }
    at += text.length;
  }
  return nodes;
}

function styled(words: Text, style: ISpan['style']): Node {
  if (style === PLAIN) {
    return words;
  }
  const { classes, properties } = look(style);
  const node = document.createElement('span');
  node.className = classes.join(' ');
  for (const [name, value] of Object.entries(properties)) {
    node.style.setProperty(name, value);
  }
  node.append(words);
  return node;
}
