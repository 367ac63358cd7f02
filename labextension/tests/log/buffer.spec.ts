import { describe, expect, it, vi } from 'vitest';

import { FOLD, LogBuffer } from '../../src/log/text/buffer';

vi.setConfig({ testTimeout: 30_000 }); // on a busy machine

const encode = (text: string) => new TextEncoder().encode(text);

/** Return a buffer that was fed pieces. */
function fed(...pieces: (string | Uint8Array)[]): LogBuffer {
  const buffer = new LogBuffer();
  pieces.forEach(piece =>
    buffer.append(typeof piece === 'string' ? encode(piece) : piece)
  );
  return buffer;
}

function rows(buffer: LogBuffer): string[] {
  return Array.from({ length: buffer.rows }, (_, row) => buffer.row(row));
}

describe('lines', () => {
  it('are what stands between newlines', () => {
    const buffer = fed('one\ntwo\r\n\nfour');
    expect(rows(buffer)).toEqual(['one', 'two', '', 'four']);
    expect(buffer.complete).toBe(3);
    expect(buffer.lines).toBe(4);
    buffer.append(encode('teen\n'));
    expect(rows(buffer)).toEqual(['one', 'two', '', 'fourteen']);
    expect(buffer.complete).toBe(4);
  });

  it('are none at first', () => {
    expect(rows(fed())).toEqual([]);
    expect(rows(fed(''))).toEqual([]);
    expect(fed().text(0, 0, -1, Infinity)).toBe('');
  });

  it('may be cut at any byte', () => {
    const text = 'äöü € 😀 ascii\nзвук 音\r\n\nend 👩‍🚀';
    const data = encode(text);
    for (let cut = 0; cut <= data.length; cut++) {
      const buffer = fed(data.subarray(0, cut));
      // Half a character is not shown.
      expect(text.replace(/\r/g, '')).toContain(
        rows(buffer).join('\n').replace(/\r/g, '')
      );
      buffer.append(data.subarray(cut));
      expect(rows(buffer)).toEqual(text.replace(/\r/g, '').split('\n'));
    }
    const bytes = [...data].map(byte => Uint8Array.of(byte));
    expect(rows(fed(...bytes))).toEqual(rows(fed(text)));
  });

  it('may be no UTF-8 at all', () => {
    const buffer = fed(Uint8Array.of(0xff, 0xfe, 0x41, 0xc3, 10, 0x80));
    expect(rows(buffer)).toEqual(['\ufffd\ufffdA\ufffd', '\ufffd']);
  });

  it('cross blocks of memory', () => {
    const line = 'x'.repeat(99);
    const buffer = fed(`${line}\n`.repeat(10_000));
    expect(buffer.rows).toBe(10_000);
    expect(buffer.size).toBe(1_000_000);
    expect(new Set(rows(buffer))).toEqual(new Set([line]));
    expect(buffer.bytes().reduce((sum, part) => sum + part.length, 0)).toBe(
      1_000_000
    );
  });

  it('are told apart from notes', () => {
    const buffer = fed('half a li');
    buffer.appendNote(encode('[... 5 bytes were dropped ...]\n'));
    buffer.append(encode('ne\n'));
    expect(rows(buffer)).toEqual([
      'half a li',
      '[... 5 bytes were dropped ...]',
      'ne'
    ]);
    expect([0, 1, 2].map(row => buffer.isNote(row))).toEqual([
      false,
      true,
      false
    ]);
  });
});

describe('long lines', () => {
  it('are folded, and copied as one', () => {
    const long = 'abcdefgh'.repeat(FOLD);
    const buffer = fed(`first\n${long}\nlast\n`);
    expect(buffer.lines).toBe(3);
    expect(buffer.rows).toBe(2 + 8);
    expect(rows(buffer).every(row => row.length <= FOLD)).toBe(true);
    expect(buffer.text(0, 0, buffer.rows - 1, Infinity)).toBe(
      `first\n${long}\nlast`
    );
    expect(buffer.number(0)).toBe(1);
    expect(buffer.number(1)).toBe(2);
    expect(buffer.number(2)).toBeNull();
    expect(buffer.number(9)).toBe(3);
  });

  it('are folded the same however they arrive', () => {
    const long = encode(`${'😀ä'.repeat(FOLD)}\nnext`);
    const pieces = [];
    for (let from = 0; from < long.length; from += 1001) {
      pieces.push(long.subarray(from, from + 1001));
    }
    expect(rows(fed(...pieces))).toEqual(rows(fed(long)));
    expect(rows(fed(long)).join('')).not.toContain('\ufffd');
  });

  it('are not folded within a sequence', () => {
    const buffer = fed(`${'x'.repeat(FOLD - 3)}\x1b[31mred\n`);
    expect(buffer.row(1)).toBe('\x1b[31mred');
  });

  it('show the last state of a progress bar', () => {
    const bar = Array.from({ length: 5_000 }, (_, at) => `\r${at} of 4999`);
    const buffer = fed(...bar);
    expect(buffer.rows).toBe(1);
    expect(buffer.row(0).length).toBeLessThanOrEqual(FOLD);
    expect(buffer.text(0, 0, 0, Infinity)).toBe('4999 of 4999');
    buffer.append(encode('\nnext\n'));
    expect(buffer.rows).toBe(2);
    expect(buffer.text(0, 0, 0, Infinity)).toBe('4999 of 4999');
  });

  it('show the last state of a progress bar of megabytes, which are not kept', () => {
    const bar = Array.from(
      { length: 60_000 },
      (_, at) => `\r${String(at).padStart(6, '0')} of 59999 ${'ä'.repeat(30)}`
    ).join('');
    const last = `059999 of 59999 ${'ä'.repeat(30)}`;
    for (const end of ['', '\n', '\r\n', '\r']) {
      const whole = fed(`start\n${bar}${end}`);
      const data = encode(`start\n${bar}${end}`);
      const pieces = [];
      for (let from = 0; from < data.length; from += 9_999) {
        pieces.push(data.subarray(from, from + 9_999));
      }
      for (const buffer of [whole, fed(...pieces)]) {
        expect(buffer.rows).toBe(2);
        expect(buffer.text(0, 0, 1, Infinity)).toBe(`start\n${last}`);
        expect(buffer.isThinned).toBe(true);
        expect(buffer.size).toBeLessThan(2 << 20);
        buffer.append(encode(end.includes('\n') ? 'next' : '\nnext'));
        expect(buffer.text(0, 0, 2, Infinity)).toBe(`start\n${last}\nnext`);
      }
    }
    const long = fed('x'.repeat(3 << 20));
    expect(long.isThinned).toBe(false);
    expect(long.lines).toBe(1);
  });
});

describe('styles', () => {
  it('go on over lines until they are reset', () => {
    const buffer = fed(
      'plain\n\x1b[31mred\nstill\n\nbold\x1b[1m\n',
      'both\x1b[0m\n\x1b[32mgreen\x1b[0m\nplain'
    );
    const styles = Array.from({ length: buffer.rows }, (_, row) =>
      buffer.styleAt(row)
    );
    const red = { front: 1 };
    const bold = { front: 1, bold: true };
    expect(styles).toEqual([{}, {}, red, red, red, bold, {}, {}]);
  });

  it('are read from sequences that arrive byte by byte', () => {
    const data = encode('a\x1b[38;5;208m\nb\x1b[m\nc');
    const bytes = [...data].map(byte => Uint8Array.of(byte));
    const buffer = fed(...bytes);
    expect(buffer.styleAt(1)).toEqual({ front: 'rgb(255, 135, 0)' });
    expect(buffer.styleAt(2)).toEqual({});
  });

  it('end where something was dropped', () => {
    const buffer = fed('\x1b[31mred\n');
    buffer.appendNote(encode('[...]\n'));
    buffer.append(encode('next'));
    expect(buffer.styleAt(1)).toEqual({});
    expect(buffer.styleAt(2)).toEqual({});
  });
});

describe('a bound', () => {
  it('has the oldest lines dropped, and their numbers kept', () => {
    const buffer = new LogBuffer();
    const lines = Array.from(
      { length: 40_000 },
      (_, at) => `line ${at + 1} ${'x'.repeat(80)}\x1b[31m`
    );
    for (let at = 0; at < lines.length; at += 1000) {
      buffer.append(encode(`${lines.slice(at, at + 1000).join('\n')}\n`));
      buffer.trim(1 << 20);
    }
    expect(buffer.size).toBeLessThanOrEqual((1 << 20) * 1.25 + (1 << 18));
    expect(buffer.dropped + buffer.rows).toBe(40_000);
    expect(buffer.row(buffer.rows - 1)).toBe(lines[39_999]);
    const number = buffer.number(0)!;
    expect(buffer.row(0)).toBe(lines[number - 1]);
    expect(buffer.styleAt(0)).toEqual({ front: 1 });
    expect(buffer.styleAt(100)).toEqual({ front: 1 });
  });

  it('leaves one endless line alone', () => {
    const buffer = fed('\r'.repeat(300_000));
    buffer.trim(1000);
    expect(buffer.rows).toBe(1);
  });
});

describe('a million lines', () => {
  it('are all there', () => {
    const part = encode('a line\n'.repeat(10_000));
    const buffer = fed(...Array.from({ length: 100 }, () => part), 'last');
    expect(buffer.rows).toBe(1_000_001);
    expect(buffer.row(500_000)).toBe('a line');
    expect(buffer.row(1_000_000)).toBe('last');
  });
});
