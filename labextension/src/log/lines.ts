import { ISignal, Signal } from '@lumino/signaling';
import type { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { ISpan, look, parse, PLAIN } from './ansi';
import type { LogBuffer } from './buffer';
import type { IMatch, LogSearch } from './search';

const LINES = 'jp-TaskAPI-log-lines';
const SIZER = 'jp-TaskAPI-log-sizer';
const ROW = 'jp-TaskAPI-log-row';
const MATCH = 'jp-TaskAPI-log-match';

/** Pixels that a scrolled element may be high: browsers end somewhere above 16 millions. */
const HIGHEST = 8_000_000;

/** Pixels that are drawn above and below of what is seen. */
const MARGIN = 300;

/** Milliseconds after the last scrolling, from when on the scrollbar may be put right. */
const REST = 150;

/** A row that is drawn. */
interface IRow {
  index: number;
  node: HTMLElement;
  /** What its drawing depends on, to see when it is out of date. */
  drawn: string;
  top: number;
  height: number;
}

/** A place in the text. */
interface IPlace {
  row: number;
  column: number;
}

/**
 * The rows of a log of which only those that are seen are drawn.
 *
 * Where a row stands is told by one of them, the anchor. Short steps of scrolling leave it alone, so that rows are where
 * the browser scrolled them; long ones set it by the share that the scrollbar shows. Both agree unless rows wrap or the
 * log is higher than a browser allows; then the scrollbar is put right once it rests.
 */
export class LogLines extends Widget {
  constructor(
    private readonly buffer: LogBuffer,
    private readonly search: LogSearch
  ) {
    super();
    this.addClass(LINES);
    this.node.tabIndex = 0;
    this.node.setAttribute('role', 'log');
    this.node.setAttribute('aria-live', 'off'); // a flood of lines is not to be read out
    this._sizer.className = SIZER;
    this.node.append(this._sizer);
    this._observer = new ResizeObserver(() => this.measure());
  }

  /** It began or ceased to follow the end. */
  readonly followChanged: ISignal<this, void> = new Signal<this, void>(this);

  /** Whether the end stays in view. */
  get follow(): boolean {
    return this._follow;
  }
  set follow(follow: boolean) {
    if (follow !== this._follow) {
      this._follow = follow;
      this._goal = null;
      (this.followChanged as Signal<this, void>).emit();
      this.refresh();
    }
  }

  /** Whether long lines are wrapped. */
  set wrap(wrap: boolean) {
    this._wrap = wrap;
    this.toggleClass('jp-mod-wrap', wrap);
    this._anchor = { ...this._anchor, y: this.canonical(this._anchor.index) };
    this._goal ??= { row: this._anchor.index, above: 0 };
    this.node.scrollLeft = 0;
    this.refresh();
  }

  /** Whether lines have numbers. */
  set numbers(numbers: boolean) {
    this.toggleClass('jp-mod-numbers', numbers);
    this.refresh();
  }

  /** The first row that is seen. */
  get first(): number {
    return this._follow
      ? Math.max(this.buffer.rows - Math.floor(this._height / this._line), 0)
      : this._anchor.index;
  }

  /** Draw what changed, with the next frame. */
  refresh(): void {
    if (!this._frame && this.isVisible) {
      this._frame = requestAnimationFrame(() => {
        this._frame = 0;
        this.draw();
      });
    }
  }

  /** Mark a match as the one that the user is at, and bring it into view; null for none. */
  reveal(match: IMatch | null): void {
    this._current = match;
    this.refresh();
    if (!match) {
      return;
    }
    const row = this._rows.get(match.row);
    const isSeen =
      row &&
      row.top >= this.node.scrollTop &&
      row.top + row.height <= this.node.scrollTop + this._height;
    this.follow = false;
    if (!isSeen) {
      this._goal = { row: match.row, above: this._height / 3 };
    }
    this._toMatch = true;
  }

  /** Return the text that is selected in here, or the number of its bytes where that is more than `limit`. */
  selected(limit: number): string | number {
    const places = this.selection();
    if (!places) {
      return '';
    }
    const [from, to] = places;
    let bytes = 0;
    for (let row = from.row; row <= to.row; row++) {
      bytes += this.buffer.length(row);
    }
    return bytes > limit
      ? bytes
      : this.buffer.text(from.row, from.column, to.row, to.column);
  }

  /** Select everything. */
  selectAll(): void {
    const last = this.buffer.rows - 1;
    if (last >= 0) {
      this._pins = [0, last];
      this.draw();
      this.select({ row: 0, column: 0 }, { row: last, column: Infinity });
    }
  }

  dispose(): void {
    if (!this.isDisposed) {
      cancelAnimationFrame(this._frame);
      clearTimeout(this._rest);
      this._observer.disconnect();
      Signal.clearData(this);
      super.dispose();
    }
  }

  handleEvent(event: Event): void {
    switch (event.type) {
      case 'scroll':
        this.onScroll();
        break;
      case 'wheel':
        if ((event as WheelEvent).deltaY < 0) {
          this.leaveEnd(); // or the next line would take it back at once
        }
        break;
      case 'keydown':
        this.onKey(event as KeyboardEvent);
        break;
      case 'selectionchange':
        this.onSelection();
        break;
    }
  }

  protected onAfterAttach(_: Message): void {
    this.node.addEventListener('scroll', this, { passive: true });
    this.node.addEventListener('wheel', this, { passive: true });
    this.node.addEventListener('keydown', this);
    document.addEventListener('selectionchange', this);
    this._observer.observe(this.node);
    this.measure();
  }

  protected onBeforeDetach(_: Message): void {
    this.node.removeEventListener('scroll', this);
    this.node.removeEventListener('wheel', this);
    this.node.removeEventListener('keydown', this);
    document.removeEventListener('selectionchange', this);
    this._observer.disconnect();
  }

  protected onAfterShow(_: Message): void {
    this.measure();
  }

  protected onActivateRequest(_: Message): void {
    this.node.focus();
  }

  private measure(): void {
    if (!this.isVisible || !this.node.clientHeight) {
      return;
    }
    const style = getComputedStyle(this.node);
    const line = Math.round(Number.parseFloat(style.lineHeight)) || 17;
    this._height = this.node.clientHeight;
    if (line !== this._line) {
      this._line = line;
      this.node.style.setProperty('--jp-TaskAPI-log-line', `${line}px`);
      this._anchor.y = this.canonical(this._anchor.index);
      this._goal ??= { row: this._anchor.index, above: 0 };
    }
    this.refresh();
  }

  /** Whether each row has a place of its own, which never changes. */
  private get isExact(): boolean {
    return !this._wrap && this.buffer.rows * this._line <= HIGHEST;
  }

  /** The height of everything, if each row took one line and browsers allowed it. */
  private get extent(): number {
    return Math.min(this.buffer.rows * this._line, HIGHEST);
  }

  /** Return where a row is by the share of the log that is before it. */
  private canonical(index: number): number {
    const all = this.buffer.rows * this._line - this._height;
    const y = index * this._line;
    return this.isExact || all <= 0
      ? y
      : Math.min(y / all, 1) * (this.extent - this._height);
  }

  /** Return the row that a scrollbar's position stands for, and where it then is. */
  private rowAt(top: number): { index: number; y: number } {
    const { _height: height, _line: line } = this;
    const rows = this.buffer.rows;
    const range = this._sizerHeight - height;
    const position = this.isExact
      ? top
      : (range > 0 ? top / range : 0) * Math.max(rows * line - height, 0);
    const index = Math.min(Math.floor(position / line), Math.max(rows - 1, 0));
    return { index, y: top - (position - index * line) };
  }

  private onScroll(): void {
    const top = this.node.scrollTop;
    const step = top - this._top;
    this._top = top;
    if (Math.abs(step) < 1) {
      return; // it was us
    }
    this._goal = null;
    const isJump = Math.abs(step) > 2 * this._height;
    if (isJump && !this.isExact) {
      this._anchor = this.rowAt(top);
    }
    const isLast =
      isJump || this.isExact || this._rows.has(this.buffer.rows - 1);
    if (isLast && top + this.node.clientHeight >= this._sizerHeight - 2) {
      this.follow ||= step > 0; // up to here a step back is the browser's, as when the tab gets higher
    } else if (step < 0) {
      this.leaveEnd();
    }
    this.refresh();
    clearTimeout(this._rest);
    if (!this.isExact) {
      this._rest = window.setTimeout(() => {
        this._isAtRest = true;
        this.refresh();
      }, REST);
    }
  }

  private leaveEnd(): void {
    if (this.node.scrollHeight > this._height) {
      this.follow = false;
    }
  }

  private onKey(event: KeyboardEvent): void {
    const { _line: line, _height: height } = this;
    const isAccel = event.ctrlKey || event.metaKey;
    if (event.altKey || event.shiftKey) {
      return;
    }
    if (isAccel && event.key === 'a') {
      this.selectAll();
    } else if (event.key === 'Home') {
      this.leaveEnd();
      this._goal = { row: 0, above: 0 };
      this.node.scrollLeft = 0;
      this.refresh();
    } else if (event.key === 'End') {
      this.follow = true;
    } else if (isAccel) {
      return;
    } else if (event.key === 'PageUp') {
      this.leaveEnd();
      this.node.scrollTop -= height - 2 * line;
    } else if (event.key === 'PageDown') {
      this.node.scrollTop += height - 2 * line;
    } else if (event.key === 'ArrowUp') {
      this.leaveEnd();
      this.node.scrollTop -= line;
    } else if (event.key === 'ArrowDown') {
      this.node.scrollTop += line;
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private draw(): void {
    const { buffer, node, _line: line, _height: height } = this;
    if (this.isDisposed || !this.isVisible || !height) {
      return;
    }
    this.forgetDropped();
    const rows = buffer.rows;
    const bottom = this.extent;
    let anchor = this._anchor;
    let top = this._top;
    if (this._follow) {
      anchor = { index: rows, y: bottom };
      top = Math.max(bottom - height, 0);
    } else if (this._goal) {
      const { row, above } = this._goal;
      anchor = { index: row, y: this.canonical(row) };
      top = anchor.y - above;
    } else if (this.isExact) {
      anchor = { index: 0, y: 0 };
    }

    // Each row is a line high at least: from the anchor up and down, these are enough.
    const at = (y: number) => anchor.index + (y - anchor.y) / line;
    const [from, to] = [at(top - MARGIN), at(top + height + MARGIN)];
    const begins = this._wrap ? Math.min(from, anchor.index) : from;
    const first = clamp(Math.floor(begins), 0, rows);
    const last = clamp(Math.ceil(to), first, rows);
    this.keep(first, last);
    this.place(anchor, first, last);

    // Rows that wrap, or too many of them: the ends are where the ends are.
    const begin = this._rows.get(first);
    const end = this._rows.get(last - 1);
    let shift = 0;
    const room = Math.min(first * line, MARGIN); // for what is above of them
    if (begin && first === 0) {
      shift = -begin.top;
    } else if (begin && begin.top < room) {
      shift = Math.max(this.canonical(first), room) - begin.top;
    }
    if (this._isAtRest && !this._follow && first > 0 && last < rows) {
      const seen = this.rowSeen(top);
      const inside = (top - seen.y) / line;
      shift = this.canonical(seen.index + inside) - top;
    }
    this._isAtRest = false;
    const sizer = !end
      ? bottom
      : last === rows
        ? end.top + end.height + shift
        : Math.max(bottom, end.top + end.height + shift + height);
    this.shift(shift);
    if (sizer !== this._sizerHeight) {
      this._sizerHeight = sizer;
      this._sizer.style.height = `${sizer}px`;
    }
    const target = this._follow ? sizer - height : top + shift;
    if (this._follow || this._goal || shift) {
      this._top = clamp(target, 0, Math.max(sizer - height, 0));
      node.scrollTop = this._top;
      this._top = node.scrollTop;
    }
    this._goal = null;
    this._anchor = this.rowSeen(this._top);
    if (this._toMatch) {
      this._toMatch = false;
      this.showMatch();
    }
  }

  /** Take account of what the log lost at its beginning, or of a new beginning. */
  private forgetDropped(): void {
    const { buffer } = this;
    const gone = buffer.dropped - this._dropped;
    if (buffer.generation !== this._generation || gone) {
      this._rows.forEach(row => row.node.remove());
      this._rows.clear();
      this._pins = [];
      this._current = null;
      const index = Math.max(this._anchor.index - gone, 0);
      this._anchor = { index, y: this.canonical(index) };
      this._goal = gone > 0 ? { row: index, above: 0 } : null;
      this._columns = 0;
      this._dropped = buffer.dropped;
      this._generation = buffer.generation;
    }
  }

  /** Have these rows drawn, and no others but those in which a selection begins or ends. */
  private keep(first: number, last: number): void {
    const { buffer } = this;
    const pins = this._pins.filter(
      row => (row < first || row >= last) && row < buffer.rows
    );
    for (const [index, row] of this._rows) {
      if ((index < first || index >= last) && !pins.includes(index)) {
        row.node.remove();
        this._rows.delete(index);
      }
    }
    const places = this._pins.length ? this.selectionAsIs() : null;
    let isStale = false;
    const wanted = [
      ...pins.filter(row => row < first),
      ...Array.from({ length: last - first }, (_, at) => first + at),
      ...pins.filter(row => row >= last)
    ].sort((a, b) => a - b);
    let next: ChildNode | null = this._sizer.firstChild;
    for (const index of wanted) {
      let row = this._rows.get(index);
      if (!row) {
        row = this.newRow(index);
        this._rows.set(index, row);
        this._sizer.insertBefore(row.node, next);
      } else {
        next = row.node.nextSibling;
      }
      const drawn = `${buffer.length(index)} ${this.search.query} ${
        this._current?.row === index ? this._current.nth : ''
      }`;
      if (drawn !== row.drawn) {
        isStale ||= row.drawn !== '' && this._pins.includes(index);
        row.drawn = drawn;
        this.drawRow(row);
      }
    }
    if (isStale && places) {
      this.select(...places);
    }
    const digits = `${String(buffer.rows + buffer.dropped).length}ch`;
    if (digits !== this._digits) {
      this._digits = digits;
      this.node.style.setProperty('--jp-TaskAPI-log-digits', digits);
    }
  }

  private newRow(index: number): IRow {
    const node = document.createElement('div');
    node.className = ROW;
    if (this.buffer.isNote(index)) {
      node.classList.add('jp-mod-note');
    }
    // What is drawn by a style sheet is neither read out nor copied.
    node.dataset.number = String(this.buffer.number(index) ?? '↪');
    return { index, node, drawn: '', top: NaN, height: this._line };
  }

  private drawRow({ index, node }: IRow): void {
    const { buffer, search } = this;
    const spans = parse(buffer.row(index), buffer.styleAt(index));
    const text = spans.map(span => span.text).join('');
    const places = search.places(text);
    const current = this._current?.row === index ? this._current.nth : -1;
    node.replaceChildren(
      ...spansOf(spans, places, search.query.length, current)
    );
    const columns = text.length + 7 * (text.split('\t').length - 1);
    if (columns > this._columns) {
      this._columns = columns;
      this.node.style.setProperty('--jp-TaskAPI-log-columns', `${columns}ch`);
    }
  }

  /** Say of each drawn row where it is. */
  private place(
    anchor: { index: number; y: number },
    first: number,
    last: number
  ): void {
    const { _line: line } = this;
    if (this._wrap) {
      for (const row of this._rows.values()) {
        row.height = row.node.offsetHeight || line;
      }
    }
    const start = clamp(anchor.index, first, last);
    let y = anchor.y + (start - anchor.index) * line;
    const tops = new Map<number, number>();
    for (let index = start; index < last; index++) {
      tops.set(index, y);
      y += this._rows.get(index)?.height ?? line;
    }
    y = anchor.y + (start - anchor.index) * line;
    for (let index = start - 1; index >= first; index--) {
      y -= this._rows.get(index)?.height ?? line;
      tops.set(index, y);
    }
    for (const row of this._rows.values()) {
      // A row that is only kept for a selection must not make everything higher.
      const rough = clamp(
        anchor.y + (row.index - anchor.index) * line,
        0,
        Math.max(this.extent - line, 0)
      );
      this.move(row, tops.get(row.index) ?? rough);
    }
  }

  private shift(by: number): void {
    if (by) {
      this._rows.forEach(row => this.move(row, row.top + by));
    }
  }

  private move(row: IRow, top: number): void {
    if (row.top !== top) {
      row.top = top;
      row.node.style.top = `${top}px`;
    }
  }

  /** Return the row at the top of what is seen. */
  private rowSeen(top: number): { index: number; y: number } {
    if (this.isExact) {
      const index = Math.floor(top / this._line);
      return { index, y: index * this._line };
    }
    let seen: IRow | null = null;
    for (const row of this._rows.values()) {
      const isAbove = row.top <= top;
      if (isAbove && (!seen || row.top > seen.top) && !this.isStray(row)) {
        seen = row;
      }
    }
    return seen ? { index: seen.index, y: seen.top } : this._anchor;
  }

  /** Whether a row is drawn only because a selection begins or ends in it. */
  private isStray(row: IRow): boolean {
    return (
      this._pins.includes(row.index) &&
      !this._rows.has(row.index - 1) &&
      !this._rows.has(row.index + 1)
    );
  }

  private showMatch(): void {
    const mark = this.node.querySelector(`.${MATCH}.jp-mod-current`);
    if (!mark) {
      return;
    }
    const box = this.node.getBoundingClientRect();
    const rect = mark.getBoundingClientRect();
    // Line numbers stand over what is at the left.
    if (rect.left < box.left + 120 || rect.right > box.right - 20) {
      this.node.scrollLeft += rect.left - box.left - box.width / 3;
    }
    if (rect.bottom > box.bottom - 20) {
      this.node.scrollTop += rect.bottom - box.bottom + box.height / 3;
      this._top = this.node.scrollTop;
      this.refresh();
    }
  }

  private onSelection(): void {
    const places = this.selectionAsIs();
    if (!places) {
      this._pins = [];
      return;
    }
    const [from, to] = places;
    this._pins = [from.row, to.row];
    if (from.row !== to.row || from.column !== to.column) {
      this.follow = false; // or the text would run away
    }
  }

  /** Return the selection in here, its beginning first; null where there is none. */
  private selection(): [IPlace, IPlace] | null {
    const places = this.selectionAsIs();
    if (!places) {
      return null;
    }
    const [a, b] = places;
    const isBackward =
      a.row > b.row || (a.row === b.row && a.column > b.column);
    return a.row === b.row && a.column === b.column
      ? null
      : isBackward
        ? [b, a]
        : [a, b];
  }

  private selectionAsIs(): [IPlace, IPlace] | null {
    const selection = document.getSelection();
    if (!selection?.anchorNode || !selection.focusNode) {
      return null;
    }
    const from = this.placeOf(selection.anchorNode, selection.anchorOffset);
    const to = this.placeOf(selection.focusNode, selection.focusOffset);
    return from && to && [from, to];
  }

  private placeOf(node: Node, offset: number): IPlace | null {
    if (!this._sizer.contains(node)) {
      return null;
    }
    for (const row of this._rows.values()) {
      if (row.node.contains(node)) {
        const range = document.createRange();
        range.setStart(row.node, 0);
        range.setEnd(node, offset);
        return { row: row.index, column: range.toString().length };
      }
    }
    return null;
  }

  private select(from: IPlace, to: IPlace): void {
    const [a, b] = [this.domOf(from), this.domOf(to)];
    if (a && b) {
      document.getSelection()?.setBaseAndExtent(...a, ...b);
    }
  }

  private domOf({ row, column }: IPlace): [Node, number] | null {
    const text = this._rows.get(row)?.node;
    if (!text) {
      return null;
    }
    const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
    let left = column;
    let last: Text | null = null;
    while (walker.nextNode()) {
      last = walker.currentNode as Text;
      if (left <= last.length) {
        return [last, left];
      }
      left -= last.length;
    }
    return last ? [last, last.length] : [text, 0];
  }

  private _sizer = document.createElement('div');
  private _sizerHeight = 0;
  private _rows = new Map<number, IRow>();
  private _anchor = { index: 0, y: 0 };
  private _goal: { row: number; above: number } | null = null;
  private _pins: number[] = [];
  private _top = 0;
  private _height = 0;
  private _line = 17;
  private _follow = true;
  private _wrap = false;
  private _current: IMatch | null = null;
  private _toMatch = false;
  private _columns = 0;
  private _digits = '';
  private _dropped = 0;
  private _generation = 0;
  private _frame = 0;
  private _rest = 0;
  private _isAtRest = false;
  private _observer: ResizeObserver;
}

/** Return the nodes that show spans, the matches in them marked. Only ever text nodes: what a log says is no HTML. */
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

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}
