import { IStyle, PLAIN, sgr } from './ansi';
import type { Bytes } from './bytes';
import { upperBound } from './numbers';

/** Bytes of a sequence that sets colours, at most. */
const SEQUENCE = 128;

const [ESCAPE, ZERO, BRACKET, M] = [27, 48, 91, 109];

/** The style that each row begins with: a colour lasts over the ends of lines until it is reset. */
export class RowStyles {
  /** Return the style that a row begins with. */
  at(row: number): IStyle {
    const found = upperBound(this._rows, row) - 1;
    return found < 0 ? PLAIN : this._styles[found];
  }

  /** Set the style of a row, which is the last with a style of its own, and of those after it. */
  set(row: number, style: IStyle): void {
    this._style = style;
    const last = this._rows.length - 1;
    if (this._rows[last] === row) {
      this._styles[last] = style;
    } else {
      this._rows.push(row);
      this._styles.push(style);
    }
  }

  /** Read the sequences in complete rows; `rowAt` and `startOf` say which row a byte is in, and where a row begins. */
  read(
    bytes: Bytes,
    from: number,
    end: number,
    rowAt: (position: number) => number,
    startOf: (row: number) => number
  ): void {
    let row = -1;
    let rowEnd = from;
    let style = this._style;
    let since: number[] = []; // escapes of the row after its last reset
    const endRow = () => {
      for (const at of since) {
        style = this.obey(style, bytes, at);
      }
      since = [];
      if (row >= 0 && style !== this._style) {
        this.set(row + 1, style);
      }
    };
    for (
      let at = bytes.find(ESCAPE, from, end);
      at >= 0;
      at = bytes.find(ESCAPE, at + 1, end)
    ) {
      if (at >= rowEnd) {
        endRow();
        row = rowAt(at);
        rowEnd = startOf(row + 1);
      }
      if (bytes.at(at + 1) === BRACKET) {
        const isReset =
          bytes.at(at + 2) === M ||
          (bytes.at(at + 2) === ZERO && bytes.at(at + 3) === M);
        if (isReset) {
          since = [];
          style = PLAIN;
        } else {
          since.push(at);
        }
      }
    }
    endRow();
  }

  /** Forget so many rows at the beginning. */
  drop(rows: number): void {
    const style = this.at(rows);
    const gone = upperBound(this._rows, rows);
    this._rows = [0, ...this._rows.slice(gone).map(row => row - rows)];
    this._styles = [style, ...this._styles.slice(gone)];
  }

  /** Return the style after the sequence that begins at a byte. */
  private obey(style: IStyle, bytes: Bytes, at: number): IStyle {
    const end = Math.min(at + SEQUENCE, bytes.length);
    for (let last = at + 2; last < end; last++) {
      const byte = bytes.at(last);
      if (byte === M) {
        const next = sgr(style, bytes.decode(at + 2, last));
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

  private _rows: number[] = [];
  private _styles: IStyle[] = []; // of _rows, each up to the next
  private _style = PLAIN;
  private _known = new Map<string, IStyle>();
}
