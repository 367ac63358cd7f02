import { plain, plainLines } from './ansi';
import type { LogBuffer } from './buffer';
import { grown, upperBound } from './numbers';

/** Bytes that are searched before the clock is read. */
const PIECE = 1 << 17;

/** A match: the row that it is in, and which of that row's matches it is. */
export interface IMatch {
  row: number;
  nth: number;
}

/**
 * A search through a log for text in any case, piece by piece, so that it never blocks the page.
 */
export class LogSearch {
  constructor(private readonly buffer: LogBuffer) {}

  /** What is searched for. */
  get query(): string {
    return this._query;
  }
  set query(query: string) {
    if (query !== this._query) {
      this._query = query;
      this._needle = lower(query);
      this.reset();
    }
  }

  /** Matches that were found so far. */
  get count(): number {
    return this._found + this._last;
  }

  /** Whether all of the log was searched. */
  get done(): boolean {
    return (
      !this._needle ||
      (this._generation === this.buffer.generation &&
        this._dropped === this.buffer.dropped &&
        this._searched === this.buffer.complete &&
        this._lastLength === this.unfinished())
    );
  }

  /** Search on for some milliseconds. */
  step(milliseconds: number): void {
    const { buffer } = this;
    if (
      this._generation !== buffer.generation ||
      this._dropped !== buffer.dropped
    ) {
      this.reset();
    }
    const end = performance.now() + milliseconds;
    while (this._needle && this._searched < buffer.complete) {
      const last = buffer.piece(this._searched, PIECE);
      this.searchRows(this._searched, last);
      this._searched = last;
      if (performance.now() >= end) {
        return;
      }
    }
    const length = this.unfinished();
    if (this._needle && length !== this._lastLength) {
      this._lastLength = length;
      this._last = length ? this.matches(buffer.row(buffer.complete)) : 0;
    }
  }

  /** Return where the matches of a text are. */
  places(text: string): number[] {
    const places: number[] = [];
    if (this._needle) {
      const folded = lower(text);
      for (
        let at = folded.indexOf(this._needle);
        at >= 0;
        at = folded.indexOf(this._needle, at + this._needle.length)
      ) {
        places.push(at);
      }
    }
    return places;
  }

  /** Return a match by its number, from 0. */
  match(index: number): IMatch {
    if (index >= this._found) {
      return { row: this.buffer.complete, nth: index - this._found };
    }
    const at = upperBound(this._totals, index, this._length);
    return {
      row: this._rows[at],
      nth: index - (at ? this._totals[at - 1] : 0)
    };
  }

  /** Return the number of the first match in a row or after it; `count` where there is none. */
  from(row: number): number {
    const at = upperBound(this._rows, row - 1, this._length);
    return at < this._length
      ? at
        ? this._totals[at - 1]
        : 0
      : row <= this.buffer.complete
        ? this._found
        : this.count;
  }

  private reset(): void {
    this._searched = this._length = this._found = 0;
    this._last = this._lastLength = 0;
    this._generation = this.buffer.generation;
    this._dropped = this.buffer.dropped;
  }

  private searchRows(first: number, last: number): void {
    const raw = this.buffer.read(first, last);
    const text = raw === null ? null : plainLines(raw);
    if (text === null) {
      for (let row = first; row < last; row++) {
        this.add(row, this.matches(this.buffer.row(row)));
      }
      return;
    }
    const folded = lower(text);
    let row = first;
    let end = -1;
    let count = 0;
    for (
      let at = folded.indexOf(this._needle);
      at >= 0;
      at = folded.indexOf(this._needle, at + this._needle.length)
    ) {
      if (at > end) {
        this.add(row, count);
        count = 0;
        if (end >= 0) {
          row += 1;
        }
        end = endOfLine(folded, end + 1);
        while (end < at) {
          row += 1;
          end = endOfLine(folded, end + 1);
        }
      }
      count += 1;
    }
    this.add(row, count);
  }

  private matches(row: string): number {
    return this.places(plain(row)).length;
  }

  private add(row: number, count: number): void {
    if (!count) {
      return;
    }
    if (this._length === this._rows.length) {
      this._rows = grown(this._rows);
      this._totals = grown(this._totals);
    }
    this._found += count;
    this._rows[this._length] = row;
    this._totals[this._length] = this._found;
    this._length += 1;
  }

  /** Return the length of the unfinished row. */
  private unfinished(): number {
    const { buffer } = this;
    return buffer.rows > buffer.complete ? buffer.length(buffer.complete) : 0;
  }

  private _query = '';
  private _needle = '';
  private _searched = 0; // rows
  private _rows = new Uint32Array(1024); // that have matches
  private _totals = new Uint32Array(1024); // matches up to the end of each
  private _length = 0; // of both
  private _found = 0;
  private _last = 0; // matches in the row that is unfinished
  private _lastLength = 0;
  private _generation = 0;
  private _dropped = 0;
}

/** Return text in lower case, each character where it was. */
export function lower(text: string): string {
  const folded = text.toLowerCase();
  return folded.length === text.length
    ? folded
    : Array.from(text, character => {
        const one = character.toLowerCase();
        return one.length === character.length ? one : character;
      }).join('');
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf('\n', from);
  return end < 0 ? text.length : end;
}
