import type { LogBuffer } from '../text/buffer';

/** The height of a scrolled element in pixels, at most: browsers' own limits are above 16 million. */
const HIGHEST = 8_000_000;

/** A row and where its top is, in pixels. */
export interface IAnchor {
  index: number;
  y: number;
}

/** Where rows stand in an element whose height browsers limit, and where some rows may take several lines. */
export class Scale {
  constructor(private readonly buffer: Pick<LogBuffer, 'rows'>) {}

  /** Pixels of a line. */
  line = 17;
  /** Pixels of what is seen. */
  height = 0;
  /** Whether a row may take several lines. */
  wrap = false;

  /** How many rows there are. */
  get rows(): number {
    return this.buffer.rows;
  }

  /** Whether each row has a place of its own, which never changes. */
  get isExact(): boolean {
    return !this.wrap && this.rows * this.line <= HIGHEST;
  }

  /** The height of everything, if each row took one line and browsers allowed it. */
  get extent(): number {
    return Math.min(this.rows * this.line, HIGHEST);
  }

  /** Return a row's top by the share of the log that is before it. */
  canonical(index: number): number {
    const all = this.rows * this.line - this.height;
    const y = index * this.line;
    return this.isExact || all <= 0
      ? y
      : Math.min(y / all, 1) * (this.extent - this.height);
  }

  /** Return the row at a position of the scrollbar, where `total` pixels can be scrolled, and that row's top. */
  rowAt(top: number, total: number): IAnchor {
    const range = total - this.height;
    const position = this.isExact
      ? top
      : (range > 0 ? top / range : 0) *
        Math.max(this.rows * this.line - this.height, 0);
    const last = Math.max(this.rows - 1, 0);
    const index = Math.min(Math.floor(position / this.line), last);
    return { index, y: top - (position - index * this.line) };
  }
}
