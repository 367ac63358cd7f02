/** Bytes of a block of memory. */
export const BLOCK = 1 << 18;

/** Bytes that are appended at the end and dropped from the beginning, in blocks, so that growing copies nothing. */
export class Bytes {
  /** How many there are. */
  get length(): number {
    return this._length;
  }

  /** Append bytes. */
  append(data: Uint8Array): void {
    for (let from = 0; from < data.length;) {
      const within = this._length % BLOCK;
      if (within === 0) {
        this._blocks.push(new Uint8Array(BLOCK));
      }
      const piece = data.subarray(from, from + BLOCK - within);
      this._blocks[this._blocks.length - 1].set(piece, within);
      from += piece.length;
      this._length += piece.length;
    }
  }

  /** Drop so many blocks from the beginning. */
  drop(blocks: number): void {
    this._blocks.splice(0, blocks);
    this._length -= blocks * BLOCK;
  }

  /** Drop all from a position on. */
  cut(length: number): void {
    this._length = length;
    this._blocks.length = Math.ceil(length / BLOCK);
  }

  /** Return the byte at a position; 0 where there is none. */
  at(position: number): number {
    return this._blocks[Math.floor(position / BLOCK)]?.[position % BLOCK] ?? 0;
  }

  /** Return the first position of a byte; -1 where there is none. */
  find(byte: number, from: number, to: number): number {
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

  /** Return the last position of a byte; -1 where there is none. */
  findLast(byte: number, from: number, to: number): number {
    let at = to - 1;
    while (at >= from && this.at(at) !== byte) {
      at -= 1;
    }
    return at >= from ? at : -1;
  }

  /** Return a part: a view of a block where it lies in one, else a copy. */
  slice(from: number, to: number): Uint8Array {
    const block = Math.floor(from / BLOCK);
    const base = block * BLOCK;
    if (to <= base + BLOCK) {
      return this._blocks[block]?.subarray(from - base, to - base) ?? NOTHING;
    }
    const data = new Uint8Array(to - from);
    for (let at = from; at < to;) {
      const piece = this.slice(at, Math.min(to, at - (at % BLOCK) + BLOCK));
      data.set(piece, at - from);
      at += piece.length;
    }
    return data;
  }

  /** Return a part as text. */
  decode(from: number, to: number): string {
    return to > from ? decoder.decode(this.slice(from, to)) : '';
  }

  /** Return all of them. */
  all(): Uint8Array[] {
    return this._blocks.map((block, index) =>
      block.subarray(0, this._length - index * BLOCK)
    );
  }

  private _blocks: Uint8Array[] = [];
  private _length = 0;
}

const NOTHING = new Uint8Array();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
