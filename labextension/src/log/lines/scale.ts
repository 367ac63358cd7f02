import type { LogBuffer } from '../text/buffer';

/** Pixels that a scrolled element may be high: browsers end somewhere above 16 millions. */
const HIGHEST = 8_000_000;

/** A row and where its top is, in pixels. */
export interface IAnchor {
  index: number;
  y: number;
}

/** Where rows stand in an element that may not be as high as all of them would be, or of which some take several lines. */
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

  /** Return where a row is by the share of the log that is before it. */
  canonical(index: number): number {
    const all = this.rows * this.line - this.height;
    const y = index * this.line;
    return this.isExact || all <= 0
      ? y
      : Math.min(y / all, 1) * (this.extent - this.height);
  }

  /** Return the row that a scrollbar's position stands for where `total` pixels can be scrolled, and where it then is. */
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
