import { Widget } from '@lumino/widgets';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { parse } from '../../src/log/text/ansi';
import { LogBuffer } from '../../src/log/text/buffer';
import { LogLines } from '../../src/log/lines/lines';
import { spansOf } from '../../src/log/lines/rows';
import { LogSearch } from '../../src/log/text/search';

vi.setConfig({ testTimeout: 30_000 }); // on a busy machine

const LINE = 17; // pixels
const HEIGHT = 340;
const HOSTILE = [
  '<img src=x onerror=alert(1)><script>alert(1)</script>',
  '</div></body>&lt;b&gt; &amp; &#60;',
  `"'><svg onload=alert(1)>`,
  '\x1b[31m<b>red</b>\x1b[38;2;1;2;3m" style="x\x1b[0m',
  '\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07'
];

const encode = (text: string) => new TextEncoder().encode(text);

/** jsdom lays nothing out: a row is as high as its text is long, at 100 characters a line. */
function layOut(): void {
  const isScroller = (node: HTMLElement) => node.tabIndex === 0;
  vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockImplementation(
    function (this: HTMLElement) {
      return (
        LINE * Math.max(Math.ceil((this.textContent ?? '').length / 100), 1)
      );
    }
  );
  vi.spyOn(Element.prototype, 'clientHeight', 'get').mockImplementation(
    function (this: Element) {
      return isScroller(this as HTMLElement) ? HEIGHT : 0;
    }
  );
  vi.spyOn(Element.prototype, 'scrollHeight', 'get').mockImplementation(
    function (this: Element) {
      return Number.parseFloat(
        (this.firstElementChild as HTMLElement).style.height
      );
    }
  );
}

describe('the lines', () => {
  let buffer: LogBuffer;
  let search: LogSearch;
  let lines: LogLines;

  beforeEach(() => {
    layOut();
    vi.stubGlobal('requestAnimationFrame', (draw: () => void) => {
      queueMicrotask(draw);
      return 1;
    });
    buffer = new LogBuffer();
    search = new LogSearch(buffer);
    lines = new LogLines(buffer, search);
    Widget.attach(lines, document.body);
  });

  afterEach(() => {
    lines.dispose();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  const frame = () => new Promise(resolve => setTimeout(resolve));
  const rows = () => [
    ...lines.node.querySelectorAll<HTMLElement>('.jp-TaskAPI-log-row')
  ];
  const texts = () => rows().map(row => row.textContent);
  const height = () => lines.node.scrollHeight;

  /** Return the rows that are seen, in whole or in part. */
  const seen = () =>
    rows()
      .map(row => ({ row, top: Number.parseFloat(row.style.top) }))
      .filter(
        ({ row, top }) =>
          top + row.offsetHeight > lines.node.scrollTop &&
          top < lines.node.scrollTop + HEIGHT
      )
      .map(({ row }) => row.textContent);

  async function write(text: string): Promise<void> {
    buffer.append(encode(text));
    lines.refresh();
    await frame();
  }

  async function scrollTo(top: number): Promise<void> {
    lines.node.scrollTop = Math.max(Math.min(top, height() - HEIGHT), 0);
    lines.node.dispatchEvent(new Event('scroll'));
    await frame();
  }

  const numbered = (count: number, begin = 0) =>
    Array.from({ length: count }, (_, at) => `line ${begin + at}\n`).join('');

  it('are text, whatever they say', async () => {
    await write(`${HOSTILE.join('\n')}\n`);
    expect(texts()).toEqual([
      ...HOSTILE.slice(0, 3),
      '<b>red</b>" style="x',
      'link'
    ]);
    const tags = [...lines.node.querySelectorAll('*')].map(
      node => node.tagName
    );
    expect(new Set(tags)).toEqual(new Set(['DIV', 'SPAN']));
  });

  it('are drawn where they are seen alone', async () => {
    await write(numbered(100_000));
    expect(rows().length).toBeLessThan(100);
    expect(seen()).toHaveLength(20);
    expect(seen()[19]).toBe('line 99999');
    await scrollTo(LINE * 5_000);
    expect(rows().length).toBeLessThan(100);
    expect(seen()[0]).toBe('line 5000');
    expect(seen()).toHaveLength(20);
  });

  it('follow the end until one scrolls up, and again at the end', async () => {
    await write(numbered(1000));
    await write(numbered(1000, 1000));
    expect(seen()[19]).toBe('line 1999');
    await scrollTo(lines.node.scrollTop - 100);
    expect(lines.follow).toBe(false);
    const before = seen();
    await write(numbered(1000, 2000));
    expect(seen()).toEqual(before);
    lines.follow = true;
    await frame();
    expect(seen()[19]).toBe('line 2999');
    await scrollTo(0);
    await scrollTo(height());
    expect(lines.follow).toBe(true);
  });

  it('have their unfinished line drawn again as it grows', async () => {
    await write('one\ntw');
    expect(texts()).toEqual(['one', 'tw']);
    await write('o\nthree');
    expect(texts()).toEqual(['one', 'two', 'three']);
  });

  it('can all be reached where they are higher than a browser allows', async () => {
    await write(numbered(600_000));
    expect(height()).toBeLessThanOrEqual(8_000_000);
    expect(seen()[19]).toBe('line 599999');
    await scrollTo((height() - HEIGHT) / 2);
    expect(seen()[0]).toBe('line 299990');
    // Short steps are as long as they look.
    await scrollTo(lines.node.scrollTop + 10 * LINE);
    expect(seen()).toContain('line 300000');
    await scrollTo(lines.node.scrollTop - 20 * LINE);
    expect(seen()).toContain('line 299980');
    lines.node.dispatchEvent(new KeyboardEvent('keydown', { key: 'Home' }));
    await frame();
    expect(seen()[0]).toBe('line 0');
    expect(lines.node.scrollTop).toBe(0);
    await scrollTo(LINE);
    expect(seen()[0]).toBe('line 1');
  });

  it('can be scrolled through where they wrap', async () => {
    const long = (at: number) => `${at} ${'x'.repeat((at % 20) * 90)}\n`;
    lines.wrap = true;
    await write(Array.from({ length: 60 }, (_, at) => long(at)).join(''));
    expect(seen().at(-1)).toBe(long(59).trim());
    // Upwards, each step as far as it looks, no row left out.
    const passed = new Set<string | null>();
    for (let step = 0; lines.node.scrollTop > 0; step++) {
      expect(step).toBeLessThan(2_000);
      seen().forEach(text => passed.add(text));
      await scrollTo(lines.node.scrollTop - 100);
    }
    seen().forEach(text => passed.add(text));
    expect(passed.size).toBe(60);
    expect(seen()[0]).toBe('0 ');
    // And down.
    passed.clear();
    for (let step = 0; !lines.follow; step++) {
      expect(step).toBeLessThan(2_000);
      seen().forEach(text => passed.add(text));
      await scrollTo(lines.node.scrollTop + 100);
    }
    seen().forEach(text => passed.add(text));
    expect(passed.size).toBe(60);
  });

  it('keep their place where the oldest are dropped', async () => {
    for (let at = 0; at < 20; at++) {
      await write(
        `${'x'.repeat(90)}\n`.repeat(2_900) + numbered(100, 100 * at)
      );
    }
    await scrollTo(lines.node.scrollTop - 500_000);
    const before = seen();
    buffer.trim(2_500_000);
    expect(buffer.dropped).toBeGreaterThan(0);
    lines.refresh();
    await frame();
    expect(seen().slice(0, 19)).toEqual(before.slice(0, 19));
  });

  it('begin anew with the log', async () => {
    await write(numbered(500));
    buffer.clear();
    await write('again\n');
    expect(texts()).toEqual(['again']);
  });

  it('mark what is searched for, and come to it', async () => {
    await write(numbered(10_000));
    search.query = 'LINE 77';
    search.step(1_000);
    const index = search.from(7_000);
    lines.reveal(search.match(index));
    await frame();
    expect(lines.follow).toBe(false);
    expect(seen()).toContain('line 7700');
    const current = lines.node.querySelectorAll('.jp-mod-current');
    expect([...current].map(mark => mark.textContent)).toEqual(['line 77']);
    expect(current[0].parentElement?.textContent).toBe('line 7700');
    search.query = '';
    lines.reveal(null);
    await frame();
    expect(lines.node.querySelector('mark')).toBeNull();
  });

  it('are all selected and copied, drawn or not', async () => {
    await write(numbered(5_000));
    lines.node.dispatchEvent(
      new KeyboardEvent('keydown', { key: 'a', ctrlKey: true })
    );
    document.dispatchEvent(new Event('selectionchange'));
    await scrollTo(LINE * 2_500);
    expect(rows().length).toBeLessThan(100);
    expect(lines.selected(1 << 20)).toBe(numbered(5_000).trim());
    expect(lines.selected(1000)).toBeGreaterThan(1000);
    document.getSelection()?.removeAllRanges();
    expect(lines.selected(1 << 20)).toBe('');
  });

  it('are copied from the middle of one to the middle of another', async () => {
    await write('\x1b[31mfirst\x1b[0m line\nsecond\nthird line\n');
    const [first, , third] = rows();
    document
      .getSelection()
      ?.setBaseAndExtent(third.firstChild!, 5, first.lastChild!, 1);
    document.dispatchEvent(new Event('selectionchange'));
    expect(lines.selected(1000)).toBe('line\nsecond\nthird');
  });
});

describe('spans', () => {
  it('are marked across colours', () => {
    const row = document.createElement('div');
    const spans = parse('a \x1b[31mfai\x1b[1mled\x1b[0m test');
    row.append(...spansOf(spans, [2, 9], 6, 1));
    expect(row.textContent).toBe('a failed test');
    expect([...row.querySelectorAll('mark')].map(m => m.textContent)).toEqual([
      'fai',
      'led',
      'test'
    ]);
  });
});
