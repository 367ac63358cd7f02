import { describe, expect, it, vi } from 'vitest';

import { FOLD, LogBuffer } from '../../src/log/text/buffer';
import { LogSearch, lower } from '../../src/log/text/search';

vi.setConfig({ testTimeout: 30_000 }); // on a busy machine

const encode = (text: string) => new TextEncoder().encode(text);

function searched(text: string, query: string): LogSearch {
  const buffer = new LogBuffer();
  buffer.append(encode(text));
  const search = new LogSearch(buffer);
  search.query = query;
  finish(search);
  return search;
}

function finish(search: LogSearch): void {
  for (let step = 0; !search.done; step++) {
    expect(step).toBeLessThan(10_000);
    search.step(1);
  }
}

function found(search: LogSearch): [number, number][] {
  return Array.from({ length: search.count }, (_, at) => {
    const { row, nth } = search.match(at);
    return [row, nth];
  });
}

describe('a search', () => {
  it('finds text in any case, several times a line', () => {
    const search = searched('Error\nno\n\nerror ERROR\nfine\nterror', 'eRRor');
    expect(found(search)).toEqual([
      [0, 0],
      [3, 0],
      [3, 1],
      [5, 0]
    ]);
    expect(search.places('an error, Errors')).toEqual([3, 10]);
  });

  it('finds nothing where nothing is', () => {
    expect(searched('abc\n', 'x').count).toBe(0);
    expect(searched('', 'x').count).toBe(0);
    expect(searched('abc\n', '').count).toBe(0);
    expect(searched('abc\n', '').places('abc')).toEqual([]);
  });

  it('takes every character as itself', () => {
    const search = searched('a.c abc\n[x]* (\\d+)\n', '.');
    expect(found(search)).toEqual([[0, 0]]);
    expect(searched('a.c\n[x]* (\\d+)\n', '[x]* (\\d').count).toBe(1);
  });

  it('reads what is shown, not what was written', () => {
    const text =
      'a \x1b[31mfai\x1b[1mled\x1b[0m test\n1%\r50%\r100%\r\nfailed\r\n';
    expect(found(searched(text, 'failed'))).toEqual([
      [0, 0],
      [2, 0]
    ]);
    expect(found(searched(text, '50'))).toEqual([]);
    expect(found(searched(text, '100%'))).toEqual([[1, 0]]);
    expect(found(searched(text, '31m'))).toEqual([]);
  });

  it('finds the same in large logs as line by line', () => {
    const lines = Array.from({ length: 30_000 }, (_, at) =>
      at % 7 === 0
        ? `\x1b[3${at % 8}mline ${at}\x1b[0m needle NEEDLE`
        : at % 1001 === 0
          ? `line\rneedle ${at}\b`
          : `line ${at} ${'hay '.repeat(at % 20)}`
    );
    lines[500] = `${'x'.repeat(3 * FOLD)} needle`;
    const search = searched(`${lines.join('\n')}\n`, 'needle');
    const before = (row: number) => row + (row > 500 ? 3 : 0); // rows of the long line
    const expected = lines.flatMap((line, at) =>
      at === 500
        ? [[503, 0]]
        : [...line.matchAll(/needle/gi)].map((_, nth) => [before(at), nth])
    );
    expect(found(search)).toEqual(expected);
    expect(search.from(0)).toBe(0);
    for (const row of [1, 7, 8, 500, 1001, 20_000, 29_999]) {
      const next = expected.findIndex(([at]) => at >= row);
      expect(search.from(row)).toBe(next < 0 ? expected.length : next);
    }
    expect(search.from(40_000)).toBe(search.count);
  });

  it('goes on in what arrives', () => {
    const buffer = new LogBuffer();
    const search = new LogSearch(buffer);
    search.query = 'ab';
    expect(search.done).toBe(true);
    for (const [piece, count] of [
      ['a', 0],
      ['b a', 1],
      ['b', 2],
      ['\nab', 3],
      [' ab\nx\n', 4],
      ['ab', 5]
    ] as const) {
      buffer.append(encode(piece));
      expect(search.done).toBe(false);
      finish(search);
      expect(search.count).toBe(count);
    }
    expect(found(search)).toEqual([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
      [3, 0]
    ]);
    expect(search.from(2)).toBe(4);
  });

  it('begins anew with another text, and where the log does', () => {
    const buffer = new LogBuffer();
    buffer.append(encode('one two one\n'));
    const search = new LogSearch(buffer);
    search.query = 'one';
    finish(search);
    search.query = 'two';
    finish(search);
    expect(search.count).toBe(1);
    buffer.clear();
    expect(search.done).toBe(false);
    finish(search);
    expect(search.count).toBe(0);
  });

  it('looks at the clock', () => {
    const buffer = new LogBuffer();
    buffer.append(encode('a needle in a haystack\n'.repeat(100_000)));
    const search = new LogSearch(buffer);
    search.query = 'needle';
    search.step(0);
    expect(search.done).toBe(false);
    expect(search.count).toBeGreaterThan(0);
    expect(search.count).toBeLessThan(100_000);
    finish(search);
    expect(search.count).toBe(100_000);
    expect(search.match(99_999)).toEqual({ row: 99_999, nth: 0 });
  });
});

describe('lower case', () => {
  it('has each character where it was', () => {
    expect(lower('ÄB')).toBe('äb');
    expect(lower('İstanbul X')).toHaveLength('İstanbul X'.length);
    expect(lower('İstanbul X').endsWith('stanbul x')).toBe(true);
  });
});
