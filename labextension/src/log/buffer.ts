import { IStyle, PLAIN, plain, sgr } from './ansi';

/** Bytes of a block of memory. */
const BLOCK = 1 << 18;

/** Bytes of a row: a longer line is folded into several, so that none is dear to draw. */
export const FOLD = 4096;

/** Bytes of a row that rewrites itself, as progress bars do; of one that grows longer, what was overwritten goes. */
const REWRITTEN_FOLD = 1 << 20;

/** Bytes of a sequence that sets colours, at most. */
const SEQUENCE = 128;

const [NEWLINE, RETURN, ESCAPE, BRACKET, M] = [10, 13, 27, 91, 109];

/**
 * A log as it arrives: its bytes, and where each row of it begins. Rows are decoded when they are asked for.
 *
 * A row is a line, or part of one that is very long. Nothing is kept of a row beside four bytes for its beginning.
 */
export class LogBuffer {
  /** Rows, with the unfinished one at the end. */
  get rows(): number {
    return this._complete + (this._starts[this._complete] < this._end ? 1 : 0);
  }

  /** Rows that won't change any more. */
  get complete(): number {
    return this._complete;
  }

  /** Lines, however many rows they take. */
  get lines(): number {
    return this.rows - this._folds.length;
  }

  /** Bytes that are held. */
  get size(): number {
    return this._end - this._starts[0];
  }

  /** Rows that were dropped from the beginning so far. */
  get dropped(): number {
    return this._dropped;
  }

  /** Whether bytes are gone that had been overwritten. */
  get isThinned(): boolean {
    return this._isThinned;
  }

  /** Counts how often the log began anew. */
  get generation(): number {
    return this._generation;
  }

  /** Take on bytes; a character may be cut anywhere. */
  append(data: Uint8Array): void {
    for (let from = 0; from < data.length; from += BLOCK) {
      this.take(data.subarray(from, from + BLOCK));
      this.forgetOverwritten();
    }
  }

  private take(data: Uint8Array): void {
    const before = this._end;
    this.store(data);
    for (
      let at = data.indexOf(NEWLINE);
      at >= 0;
      at = data.indexOf(NEWLINE, at + 1)
    ) {
      this.fold(before + at);
      this.begin(before + at + 1);
    }
    this.fold(this._end);
    this.followStyles();
  }

  /** Take on a line of somebody else than the task. */
  appendNote(data: Uint8Array): void {
    this.breakLine();
    this._notes.push(this._complete);
    this.pushStyle(this._complete, PLAIN);
    this.append(data);
    this.breakLine();
  }

  /** End the line that is unfinished. */
  breakLine(): void {
    if (this.rows > this._complete) {
      this.append(Uint8Array.of(NEWLINE));
    }
  }

  /** Forget everything. */
  clear(): void {
    this._blocks = [];
    this._end = 0;
    this._starts = new Uint32Array(1024);
    this._complete = 0;
    this._folds = [];
    this._notes = [];
    this._styledRows = [];
    this._styles = [];
    this._style = PLAIN;
    this._scanned = 0;
    this._dropped = 0;
    this._isThinned = false;
    this._generation += 1;
  }

  /** Drop the oldest rows where more than a quarter over so many bytes are held. */
  trim(bytes: number): void {
    const blocks = Math.floor((this._end - bytes) / BLOCK);
    if (this.size <= bytes * 1.25 || blocks < 1) {
      return;
    }
    const cut = blocks * BLOCK;
    const rows = this.rowAt(cut) + 1;
    if (rows > this._complete) {
      return; // it is all one line
    }
    const style = this.styleAt(rows);
    this._blocks.splice(0, blocks);
    this._end -= cut;
    this._scanned -= cut;
    this._starts = this._starts.slice(rows, this._complete + 1024);
    this._complete -= rows;
    for (let row = 0; row <= this._complete; row++) {
      this._starts[row] -= cut;
    }
    const later = (list: number[]) =>
      list.map(row => row - rows).filter(row => row >= 0);
    this._notes = later(this._notes);
    this._droppedLines += rows - upperBound(this._folds, rows - 1);
    this._folds = later(this._folds);
    this._styledRows = later(this._styledRows);
    this._styles = this._styledRows.length
      ? this._styles.slice(-this._styledRows.length)
      : [];
    if (this._styledRows[0] !== 0) {
      this._styledRows.unshift(0);
      this._styles.unshift(style);
    }
    this._dropped += rows;
  }

  /** Return a row's text as it was written, without its end; of one that rewrote itself, the last that counts. */
  row(index: number): string {
    const begin = this._starts[index];
    let end = this.endOf(index);
    if (index < this._complete) {
      end -= this.at(end - 1) === RETURN && end > begin ? 1 : 0;
    } else {
      end -= this.unfinished(begin, end);
    }
    const last = end - begin > FOLD ? this.find(RETURN, end - FOLD, end) : -1;
    return this.decode(last < 0 ? begin : last + 1, end);
  }

  /** Return the style that a row begins with. */
  styleAt(index: number): IStyle {
    const found = upperBound(this._styledRows, index) - 1;
    return found < 0 ? PLAIN : this._styles[found];
  }

  /** Return the number of a row's line, from 1; null where it goes on with the line of the row before. */
  number(index: number): number | null {
    const folds = upperBound(this._folds, index);
    return this._folds[folds - 1] === index
      ? null
      : this._droppedLines + index + 1 - folds;
  }

  /** Whether a row is about the log rather than of it. */
  isNote(index: number): boolean {
    return this._notes[upperBound(this._notes, index) - 1] === index;
  }

  /** Bytes of a row: those of the unfinished one grow. */
  length(index: number): number {
    return this.endOf(index) - this._starts[index];
  }

  /** Return the first row that is not to be read with `first`, so that no more than so many bytes are. */
  piece(first: number, bytes: number): number {
    const row = this.rowAt(this._starts[first] + bytes);
    return Math.min(Math.max(row, first + 1), this._complete);
  }

  /** Return complete rows as they were written; null where one of them is folded. */
  read(first: number, last: number): string | null {
    const fold = upperBound(this._folds, first - 1);
    return this._folds[fold] < last
      ? null
      : this.decode(this._starts[first], this._starts[last]);
  }

  /** Return what is to be read of rows, from one column to another. */
  text(first: number, from: number, last: number, to: number): string {
    const parts: string[] = [];
    for (let row = first; row <= last; row++) {
      const text = plain(this.row(row));
      const begin = row === first ? from : 0;
      const isFold = row > first && this.number(row) === null;
      parts.push(
        row > first && !isFold ? '\n' : '',
        row === last ? text.slice(begin, to) : text.slice(begin)
      );
    }
    return parts.join('');
  }

  /** Return all bytes, where none were dropped. */
  bytes(): Uint8Array[] {
    return this._blocks.map((block, index) =>
      block.subarray(0, this._end - index * BLOCK)
    );
  }

  /** Of an unfinished row that rewrites itself and is long, keep what can be seen. */
  private forgetOverwritten(): void {
    const start = this._starts[this._complete];
    if (this._end - start <= REWRITTEN_FOLD) {
      return;
    }
    const from = this.find(RETURN, this._end - FOLD, this._end);
    if (from < 0) {
      return;
    }
    const kept = new Uint8Array(this._end - from);
    for (let at = 0; at < kept.length; at++) {
      kept[at] = this.at(from + at);
    }
    this._end = start;
    this._blocks.length = Math.ceil(start / BLOCK);
    this.store(kept);
    this._isThinned = true;
  }

  private store(data: Uint8Array): void {
    for (let from = 0; from < data.length;) {
      const within = this._end % BLOCK;
      if (within === 0) {
        this._blocks.push(new Uint8Array(BLOCK));
      }
      const piece = data.subarray(from, from + BLOCK - within);
      this._blocks[this._blocks.length - 1].set(piece, within);
      from += piece.length;
      this._end += piece.length;
    }
  }

  /** Begin a row. */
  private begin(at: number): void {
    this._complete += 1;
    if (this._complete === this._starts.length) {
      const starts = new Uint32Array(2 * this._complete);
      starts.set(this._starts);
      this._starts = starts;
    }
    this._starts[this._complete] = at;
  }

  /** Fold the last row, if it is long, up to where it ends or the log does. */
  private fold(end: number): void {
    for (;;) {
      const start = this._starts[this._complete];
      if (end - start <= FOLD) {
        return;
      }
      let cut = start + FOLD;
      if (this.find(RETURN, start, Math.min(cut, end - 1)) >= 0) {
        if (end - start <= 2 * REWRITTEN_FOLD) {
          return;
        }
        cut = start + 2 * REWRITTEN_FOLD;
      }
      const escape = this.findLast(ESCAPE, cut - 24, cut);
      cut = escape > start ? escape : cut - this.unfinished(start, cut);
      this._folds.push(this._complete + 1);
      this.begin(cut);
    }
  }

  /** Note the rows that begin in another style than the one before. */
  private followStyles(): void {
    const end = this._starts[this._complete];
    let row = -1;
    let rowEnd = this._scanned;
    let style = this._style;
    let since: number[] = []; // escapes of the row after its last reset
    const endRow = () => {
      for (const at of since) {
        style = this.obey(style, at);
      }
      since = [];
      if (row >= 0 && style !== this._style) {
        this.pushStyle(row + 1, style);
      }
    };
    for (
      let at = this.find(ESCAPE, this._scanned, end);
      at >= 0;
      at = this.find(ESCAPE, at + 1, end)
    ) {
      if (at >= rowEnd) {
        endRow();
        row = this.rowAt(at);
        rowEnd = this._starts[row + 1];
      }
      if (this.at(at + 1) === BRACKET) {
        const reset =
          this.at(at + 2) === M ||
          (this.at(at + 2) === 48 && this.at(at + 3) === M);
        if (reset) {
          since = [];
          style = PLAIN;
        } else {
          since.push(at);
        }
      }
    }
    endRow();
    this._scanned = end;
  }

  private pushStyle(row: number, style: IStyle): void {
    this._style = style;
    const last = this._styledRows.length - 1;
    if (this._styledRows[last] === row) {
      this._styles[last] = style;
    } else {
      this._styledRows.push(row);
      this._styles.push(style);
    }
  }

  /** Return the style after the sequence that begins at a byte. */
  private obey(style: IStyle, at: number): IStyle {
    const end = Math.min(at + SEQUENCE, this._end);
    for (let last = at + 2; last < end; last++) {
      const byte = this.at(last);
      if (byte === M) {
        const next = sgr(style, this.decode(at + 2, last));
        const key = next === PLAIN ? '' : JSON.stringify(next);
        if (this._known.size > 4096) {
          this._known.clear();
        }
        const known = key ? this._known.get(key) : PLAIN;
        this._known.set(key, known ?? next);
        return known ?? next; // one object for many rows
      }
      if (byte < 0x20 || byte > 0x3f) {
        break;
      }
    }
    return style;
  }

  /** Return the row that a byte belongs to. */
  private rowAt(position: number): number {
    const begun = upperBound(this._starts, position, this._complete + 1);
    return Math.max(begun - 1, 0);
  }

  /** Return where a row's text ends, before the newline. */
  private endOf(index: number): number {
    if (index >= this._complete) {
      return this._end;
    }
    const next = this._starts[index + 1];
    return this.at(next - 1) === NEWLINE ? next - 1 : next;
  }

  /** Return how many bytes before `end` are the beginning of a character that is not whole. */
  private unfinished(begin: number, end: number): number {
    for (let back = 1; back <= 3 && end - back >= begin; back++) {
      const byte = this.at(end - back);
      if (byte >= 0xc0) {
        const whole = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
        return whole > back ? back : 0;
      }
      if (byte < 0x80) {
        break;
      }
    }
    return 0;
  }

  private at(position: number): number {
    return this._blocks[Math.floor(position / BLOCK)]?.[position % BLOCK] ?? 0;
  }

  private find(byte: number, from: number, to: number): number {
    while (from < to) {
      const block = Math.floor(from / BLOCK);
      const base = block * BLOCK;
      const found = this._blocks[block].indexOf(byte, from - base) + base;
      if (found >= from) {
        return found < to ? found : -1;
      }
      from = base + BLOCK;
    }
    return -1;
  }

  private findLast(byte: number, from: number, to: number): number {
    let last = -1;
    for (
      let at = this.find(byte, from, to);
      at >= 0;
      at = this.find(byte, at + 1, to)
    ) {
      last = at;
    }
    return last;
  }

  private decode(from: number, to: number): string {
    const block = Math.floor(from / BLOCK);
    const base = block * BLOCK;
    if (to <= base + BLOCK) {
      return to > from
        ? decoder.decode(this._blocks[block].subarray(from - base, to - base))
        : '';
    }
    const data = new Uint8Array(to - from);
    for (let at = from; at < to;) {
      const within = at % BLOCK;
      const piece = this._blocks[Math.floor(at / BLOCK)].subarray(
        within,
        within + to - at
      );
      data.set(piece, at - from);
      at += piece.length;
    }
    return decoder.decode(data);
  }

  private _blocks: Uint8Array[] = [];
  private _end = 0;
  private _starts = new Uint32Array(1024);
  private _complete = 0;
  private _folds: number[] = []; // rows that go on with the line of the one before
  private _notes: number[] = [];
  private _styledRows: number[] = [];
  private _styles: IStyle[] = []; // of _styledRows, each up to the next
  private _style = PLAIN;
  private _known = new Map<string, IStyle>();
  private _scanned = 0; // up to where styles were followed
  private _dropped = 0;
  private _droppedLines = 0;
  private _generation = 0;
  private _isThinned = false;
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Return how many of a sorted list, or of its first `length`, are no greater than a value. */
export function upperBound(
  list: ArrayLike<number>,
  value: number,
  length = list.length
): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle] <= value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}
