/** `npm run bench`: what a million lines of a log cost, beside a tenth and a hundredth of them. */
import { describe, expect, it, vi } from 'vitest';

import { LogBuffer } from '../src/log/text/buffer';

vi.setConfig({ testTimeout: 60_000 });

const encode = (text: string) => new TextEncoder().encode(text);

describe('a million lines', () => {
  const line = `2026-11-25 12:00:00 INFO step done, loss 0.123456 ${'x'.repeat(30)}\n`;
  const part = encode(line.repeat(10_000));

  /** Milliseconds that it takes, at best of a few times. */
  function best(act: () => void, times = 3): number {
    return Math.min(
      ...Array.from({ length: times }, () => {
        const begin = performance.now();
        act();
        return performance.now() - begin;
      })
    );
  }

  it('take time in proportion', () => {
    const append = (parts: number) => () => {
      const buffer = new LogBuffer();
      for (let at = 0; at < parts; at++) {
        buffer.append(part);
      }
      expect(buffer.rows).toBe(parts * 10_000);
    };
    append(10)();
    const few = best(append(10), 10);
    const many = best(append(100));
    expect(many / few).toBeLessThan(40); // ten times as much
  });

  it('are each at hand at once', () => {
    const few = new LogBuffer();
    const many = new LogBuffer();
    few.append(part);
    for (let at = 0; at < 100; at++) {
      many.append(part);
    }
    const readAll = (buffer: LogBuffer) => () => {
      for (let at = 0; at < 2_000; at++) {
        buffer.row(Math.floor((at / 2_000) * buffer.rows));
        buffer.styleAt(at);
        buffer.number(at);
      }
    };
    readAll(few)();
    const least = 1; // ms: what the clock can't tell from nothing
    expect(
      best(readAll(many)) / Math.max(best(readAll(few)), least)
    ).toBeLessThan(20);
  });
});
