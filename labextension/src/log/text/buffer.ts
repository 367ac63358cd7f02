import { IStyle, PLAIN, plain } from './ansi';
import { BLOCK, Bytes } from './bytes';
import { grown, upperBound } from './numbers';
import { RowStyles } from './styles';

/** Bytes of a row: a longer line is folded into several, so that each is cheap to draw. */
export const FOLD = 4096;

/** Bytes of a row that rewrites itself, as progress bars do; of a longer one, what was overwritten is dropped. */
const REWRITTEN_FOLD = 1 << 20;

const [NEWLINE, RETURN, ESCAPE] = [10, 13, 27];

/**
 * A log as it arrives: its bytes, and where each row of it begins. Rows are decoded when they are asked for.
 *
 * A row is a line, or part of one that is very long. Nothing is kept of a row beside four bytes for its beginning.
 */
export class LogBuffer {
  /** Rows, with the unfinished one at the end. */
  get rows(): number {
    return (
      this._complete +
      (this._starts[this._complete] < this._bytes.length ? 1 : 0)
    );
  }

  /** Rows that will not change any more. */
  get complete(): number {
    return this._complete;
  }

  /** Lines, however many rows they take. */
  get lines(): number {
    return this.rows - this._folds.length;
  }

  /** Bytes that are held. */
  get size(): number {
    return this._bytes.length - this._starts[0];
  }

  /** Rows that were dropped from the beginning so far. */
  get dropped(): number {
    return this._dropped;
  }

  /** Whether bytes were dropped that had been overwritten. */
  get isThinned(): boolean {
    return this._isThinned;
  }

  /** Counts how often the log began anew. */
  get generation(): number {
    return this._generation;
  }

  /** Append bytes; a character may be cut anywhere. */
  append(data: Uint8Array): void {
    for (let from = 0; from < data.length; from += BLOCK) {
      this.take(data.subarray(from, from + BLOCK));
      this.forgetOverwritten();
    }
  }

  private take(data: Uint8Array): void {
    const { _bytes: bytes } = this;
    const before = bytes.length;
    bytes.append(data);
    for (
      let at = data.indexOf(NEWLINE);
      at >= 0;
      at = data.indexOf(NEWLINE, at + 1)
    ) {
      this.fold(before + at);
      this.begin(before + at + 1);
    }
    this.fold(bytes.length);
    const end = this._starts[this._complete];
    this._styles.read(
      bytes,
      this._styled,
      end,
      position => this.rowAt(position),
      row => this._starts[row]
    );
    this._styled = end;
  }

  /** Append a line that the task did not write. */
  appendNote(data: Uint8Array): void {
    this.breakLine();
    this._notes.push(this._complete);
    this._styles.set(this._complete, PLAIN);
    this.append(data);
    this.breakLine();
  }

  /** End the line that is unfinished. */
  breakLine(): void {
    if (this.rows > this._complete) {
      this.append(Uint8Array.of(NEWLINE));
    }
  }

  /** Drop everything. */
  clear(): void {
    this._bytes = new Bytes();
    this._starts = new Uint32Array(1024);
    this._complete = 0;
    this._folds = [];
    this._notes = [];
    this._styles = new RowStyles();
    this._styled = 0;
    this._dropped = 0;
    this._isThinned = false;
    this._generation += 1;
  }

  /** Drop the oldest rows where more than a quarter over so many bytes are held. */
  trim(bytes: number): void {
    const blocks = Math.floor((this._bytes.length - bytes) / BLOCK);
    if (this.size <= bytes * 1.25 || blocks < 1) {
      return;
    }
    const cut = blocks * BLOCK;
    const rows = this.rowAt(cut) + 1;
    if (rows > this._complete) {
      return; // it is all one line
    }
    this._bytes.drop(blocks);
    this._styles.drop(rows);
    this._styled -= cut;
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
    this._dropped += rows;
  }

  /** Return a row's text as it was written, without its end; of one that rewrote itself, its last state. */
  row(index: number): string {
    const begin = this._starts[index];
    let end = this.endOf(index);
    if (index < this._complete) {
      end -= this._bytes.at(end - 1) === RETURN && end > begin ? 1 : 0;
    } else {
      end -= this.unfinished(begin, end);
    }
    const last =
      end - begin > FOLD ? this._bytes.find(RETURN, end - FOLD, end) : -1;
    return this._bytes.decode(last < 0 ? begin : last + 1, end);
  }

  /** Return the style that a row begins with. */
  styleAt(index: number): IStyle {
    return this._styles.at(index);
  }

  /** Return the number of a row's line, from 1; null where it goes on with the line of the row before. */
  number(index: number): number | null {
    const folds = upperBound(this._folds, index);
    return this._folds[folds - 1] === index
      ? null
      : this._droppedLines + index + 1 - folds;
  }

  /** Whether a row is a note about the log. */
  isNote(index: number): boolean {
    return this._notes[upperBound(this._notes, index) - 1] === index;
  }

  /** Bytes of a row: those of the unfinished one grow. */
  length(index: number): number {
    return this.endOf(index) - this._starts[index];
  }

  /** Return the end of the rows from `first` on that have so many bytes together, at least one row. */
  piece(first: number, bytes: number): number {
    const row = this.rowAt(this._starts[first] + bytes);
    return Math.min(Math.max(row, first + 1), this._complete);
  }

  /** Return complete rows as they were written; null where one of them is folded. */
  read(first: number, last: number): string | null {
    const fold = upperBound(this._folds, first - 1);
    return this._folds[fold] < last
      ? null
      : this._bytes.decode(this._starts[first], this._starts[last]);
  }

  /** Return rows as text, from one column to another. */
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
    return this._bytes.all();
  }

  /** Of a long unfinished row that rewrites itself, keep what is visible. */
  private forgetOverwritten(): void {
    const { _bytes: bytes } = this;
    const start = this._starts[this._complete];
    if (bytes.length - start <= REWRITTEN_FOLD) {
      return;
    }
    const from = bytes.find(RETURN, bytes.length - FOLD, bytes.length);
    if (from >= 0) {
      const kept = bytes.slice(from, bytes.length).slice();
      bytes.cut(start);
      bytes.append(kept);
      this._isThinned = true;
    }
  }

  /** Begin a row. */
  private begin(at: number): void {
    this._complete += 1;
    if (this._complete === this._starts.length) {
      this._starts = grown(this._starts);
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
      if (this._bytes.find(RETURN, start, Math.min(cut, end - 1)) >= 0) {
        if (end - start <= 2 * REWRITTEN_FOLD) {
          return;
        }
        cut = start + 2 * REWRITTEN_FOLD;
      }
      const escape = this._bytes.findLast(ESCAPE, cut - 24, cut);
      cut = escape > start ? escape : cut - this.unfinished(start, cut);
      this._folds.push(this._complete + 1);
      this.begin(cut);
    }
  }

  /** Return the row that a byte belongs to. */
  private rowAt(position: number): number {
    const begun = upperBound(this._starts, position, this._complete + 1);
    return Math.max(begun - 1, 0);
  }

  /** Return where a row's text ends, before the newline. */
  private endOf(index: number): number {
    if (index >= this._complete) {
      return this._bytes.length;
    }
    const next = this._starts[index + 1];
    return this._bytes.at(next - 1) === NEWLINE ? next - 1 : next;
  }

  /** Return how many bytes before `end` are the beginning of a character that is not whole. */
  private unfinished(begin: number, end: number): number {
    for (let back = 1; back <= 3 && end - back >= begin; back++) {
      const byte = this._bytes.at(end - back);
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

  private _bytes = new Bytes();
  private _starts = new Uint32Array(1024);
  private _complete = 0;
  private _folds: number[] = []; // rows that go on with the line of the one before
  private _notes: number[] = [];
  private _styles = new RowStyles();
  private _styled = 0; // up to where styles were read
  private _dropped = 0;
  private _droppedLines = 0;
  private _generation = 0;
  private _isThinned = false;
}
