import type { LogBuffer } from '../text/buffer';
import type { IMatch, LogSearch } from '../text/search';
import { DrawnRows, MATCH } from './rows';
import type { IAnchor } from './scale';
import { Scale } from './scale';
import { LogSelection } from './selection';

/** Pixels that are drawn above and below the view. */
const MARGIN = 300;

/**
 * The part of a log that is in view, and drawn.
 *
 * All rows are placed relative to one of them, the anchor. Short steps of scrolling keep it, so that rows stay where
 * the browser scrolled them; a jump of the scrollbar sets it by the share of the log above it. Both agree unless rows wrap
 * or the log is higher than a browser allows; then the scrollbar is corrected once scrolling has stopped.
 */
export class Viewport {
  constructor(
    private readonly node: HTMLElement,
    private readonly buffer: LogBuffer,
    search: LogSearch
  ) {
    this.scale = new Scale(buffer);
    this.rows = new DrawnRows(buffer, search, this.scale);
    this.selection = new LogSelection(this.rows);
    node.append(this.rows.node);
  }

  readonly scale: Scale;
  readonly rows: DrawnRows;
  readonly selection: LogSelection;

  /** The first row in view. */
  get first(): number {
    return this._anchor.index;
  }

  /** Scroll with the next drawing, so that a row is so many pixels below the top of the view. */
  goTo(row: number, above = 0): void {
    this._goal = { row, above };
  }

  /** Stay where the user scrolls to. */
  stay(): void {
    this._goal = null;
  }

  /** Place rows again whose height has changed; the first in view stays there. */
  remeasure(): void {
    this._anchor.y = this.scale.canonical(this._anchor.index);
    this._goal ??= { row: this._anchor.index, above: 0 };
  }

  /** Bring a match into view. */
  reveal(match: IMatch): void {
    const { node, scale } = this;
    const row = this.rows.get(match.row);
    const isSeen =
      row &&
      row.top >= node.scrollTop &&
      row.top + row.height <= node.scrollTop + scale.height;
    if (!isSeen) {
      this.goTo(match.row, scale.height / 3);
    }
    this._toMatch = true;
  }

  /** Read where the user scrolled to: by how many pixels, and whether to the end; null where it was this code. */
  scrolled(): { step: number; isEnd: boolean } | null {
    const { node, scale } = this;
    const top = node.scrollTop;
    const step = top - this._top;
    this._top = top;
    if (Math.abs(step) < 1) {
      return null;
    }
    this._goal = null;
    const isJump = Math.abs(step) > 2 * scale.height;
    if (isJump && !scale.isExact) {
      this._anchor = scale.rowAt(top, this._total);
    }
    const isLast = isJump || scale.isExact || !!this.rows.get(scale.rows - 1);
    return {
      step,
      isEnd: isLast && top + node.clientHeight >= this._total - 2
    };
  }

  /** Draw it, `isAtRest` if nobody scrolled for a while; true if it is to be drawn once more. */
  draw(follow: boolean, isAtRest: boolean): boolean {
    this.forgetDropped();
    const { node, rows: drawn, scale } = this;
    const { rows, line, height, extent: bottom, isExact, wrap } = scale;
    let anchor = this._anchor;
    let top = this._top;
    if (follow) {
      anchor = { index: rows, y: bottom };
      top = Math.max(bottom - height, 0);
    } else if (this._goal) {
      const { row, above } = this._goal;
      anchor = { index: row, y: scale.canonical(row) };
      top = anchor.y - above;
    } else if (isExact) {
      anchor = { index: 0, y: 0 };
    }

    // Each row is a line high at least: from the anchor up and down, these are enough.
    const at = (y: number) => anchor.index + (y - anchor.y) / line;
    const [from, to] = [at(top - MARGIN), at(top + height + MARGIN)];
    const begins = wrap ? Math.min(from, anchor.index) : from;
    const first = clamp(Math.floor(begins), 0, rows);
    const last = clamp(Math.ceil(to), first, rows);
    this.keep(first, last);
    drawn.place(anchor, first, last);

    // Rows that wrap, or too many of them: the ends are where the ends are.
    const begin = drawn.get(first);
    const end = drawn.get(last - 1);
    let shift = 0;
    const room = Math.min(first * line, MARGIN); // for what is above of them
    if (begin && first === 0) {
      shift = -begin.top;
    } else if (begin && begin.top < room) {
      shift = Math.max(scale.canonical(first), room) - begin.top;
    }
    if (isAtRest && !follow && first > 0 && last < rows) {
      const seen = this.rowSeen(top);
      const inside = (top - seen.y) / line;
      shift = scale.canonical(seen.index + inside) - top;
    }
    const total = !end
      ? bottom
      : last === rows
        ? end.top + end.height + shift
        : Math.max(bottom, end.top + end.height + shift + height);
    drawn.shift(shift);
    if (total !== this._total) {
      this._total = total;
      drawn.node.style.height = `${total}px`;
    }
    const target = follow ? total - height : top + shift;
    if (follow || this._goal || shift) {
      this._top = clamp(target, 0, Math.max(total - height, 0));
      node.scrollTop = this._top;
      this._top = node.scrollTop;
    }
    this._goal = null;
    this._anchor = this.rowSeen(this._top);
    const isMore = this._toMatch && this.showMatch();
    this._toMatch = false;
    return isMore;
  }

  /** Follow the buffer where it dropped rows at its beginning, or began anew. */
  private forgetDropped(): void {
    const { buffer } = this;
    const gone = buffer.dropped - this._dropped;
    if (buffer.generation !== this._generation || gone) {
      this.rows.clear();
      const index = Math.max(this._anchor.index - gone, 0);
      this._anchor = { index, y: this.scale.canonical(index) };
      this._goal = gone > 0 ? { row: index, above: 0 } : null;
      this._dropped = buffer.dropped;
      this._generation = buffer.generation;
    }
  }

  /** Draw these rows, and keep the selection. */
  private keep(first: number, last: number): void {
    const { buffer, rows } = this;
    const places = rows.pins.length ? this.selection.places : null;
    const isStale = rows.keep(first, last);
    if (isStale && places) {
      this.selection.set(places);
    }
    const digits = String(buffer.rows + buffer.dropped).length;
    for (const [name, value] of [
      ['digits', digits],
      ['columns', rows.columns]
    ] as const) {
      if (this._widths[name] !== value) {
        this._widths[name] = value;
        this.node.style.setProperty(`--jp-TaskAPI-log-${name}`, `${value}ch`);
      }
    }
  }

  /** Return the row at the top of the view. */
  private rowSeen(top: number): IAnchor {
    const { isExact, line } = this.scale;
    const index = Math.floor(top / line);
    return isExact
      ? { index, y: index * line }
      : (this.rows.seenAt(top) ?? this._anchor);
  }

  /** Scroll to the match within its row; true if that brought other rows into view. */
  private showMatch(): boolean {
    const mark = this.node.querySelector(`.${MATCH}.jp-mod-current`);
    if (!mark) {
      return false;
    }
    const box = this.node.getBoundingClientRect();
    const rect = mark.getBoundingClientRect();
    // Line numbers cover the left edge.
    if (rect.left < box.left + 120 || rect.right > box.right - 20) {
      this.node.scrollLeft += rect.left - box.left - box.width / 3;
    }
    const isBelow = rect.bottom > box.bottom - 20;
    if (isBelow) {
      this.node.scrollTop += rect.bottom - box.bottom + box.height / 3;
      this._top = this.node.scrollTop;
    }
    return isBelow;
  }

  private _anchor: IAnchor = { index: 0, y: 0 };
  private _goal: { row: number; above: number } | null = null;
  private _top = 0;
  private _total = 0; // pixels that can be scrolled
  private _toMatch = false;
  private _widths = { digits: 0, columns: 0 };
  private _dropped = 0;
  private _generation = 0;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
