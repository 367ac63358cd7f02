import { describe, expect, it } from 'vitest';

import {
  look,
  parse,
  plain,
  PLAIN,
  plainLines,
  sgr
} from '../../src/log/text/ansi';

const ESC = '\x1b';

/** Return a line's spans as text and class names, and their colours in brackets. */
function shown(line: string): [string, string][] {
  return parse(line).map(({ text, style }) => {
    const { classes, properties } = look(style);
    const colours = Object.values(properties).map(
      value => `[${value.replace(/^var\(--jp-TaskAPI-ansi-(.*)\)$/, '$1')}]`
    );
    return [text, [...classes, ...colours].join(' ')];
  });
}

describe('colours', () => {
  it('leaves plain text alone', () => {
    expect(parse('5 < 6 && "a"\tb')).toEqual([
      { text: '5 < 6 && "a"\tb', style: PLAIN }
    ]);
    expect(parse('')).toEqual([]);
  });

  it('reads the 16 colours of the palette', () => {
    expect(
      shown(`${ESC}[31mred${ESC}[0m and ${ESC}[92;44mboth${ESC}[39m rest`)
    ).toEqual([
      ['red', 'ansi-fg [red]'],
      [' and ', ''],
      ['both', 'ansi-fg ansi-bg [green-intense] [blue-bg]'],
      [' rest', 'ansi-bg ansi-on-dark [blue-bg]']
    ]);
  });

  it('reads weights and lines, and their ends', () => {
    expect(
      shown(`${ESC}[1;3;4;9mall${ESC}[22;23mlines${ESC}[24;29mnone${ESC}[2mdim`)
    ).toEqual([
      ['all', 'ansi-bold ansi-italic ansi-underline ansi-strike'],
      ['lines', 'ansi-underline ansi-strike'],
      ['none', ''],
      ['dim', 'ansi-dim']
    ]);
  });

  it('swaps colours', () => {
    expect(
      shown(`${ESC}[7minverse${ESC}[31mred${ESC}[27mback`).map(([, c]) => c)
    ).toEqual([
      'ansi-default-inverse-bg ansi-default-inverse-fg',
      'ansi-bg ansi-on-dark [red-bg]',
      'ansi-fg [red]'
    ]);
  });

  it.each([
    ['38;5;1', 1],
    ['38;5;9', 9],
    ['38;5;16', 'rgb(0, 0, 0)'],
    ['38;5;208', 'rgb(255, 135, 0)'],
    ['38;5;244', 'rgb(128, 128, 128)'],
    ['38;5;999', 'rgb(238, 238, 238)'],
    ['38;2;1;2;300', 'rgb(1, 2, 255)'],
    ['38:2:1:2:3', 'rgb(1, 2, 3)'],
    ['38:2::1:2:3', 'rgb(1, 2, 3)'],
    ['38:5:208', 'rgb(255, 135, 0)']
  ])('reads the colour %s', (parameters, colour) => {
    expect(sgr(PLAIN, parameters)).toEqual({ front: colour });
  });

  it('goes on after a colour of several numbers', () => {
    expect(sgr(PLAIN, '38;5;208;48;2;1;2;3;1')).toEqual({
      front: 'rgb(255, 135, 0)',
      back: 'rgb(1, 2, 3)',
      bold: true
    });
  });

  it('ignores what it does not know', () => {
    for (const parameters of ['38', '38;7', '8', '73', '?25', '>4;1', '999']) {
      expect(sgr(PLAIN, parameters)).toEqual({});
    }
    expect(sgr({ front: 1 }, '')).toBe(PLAIN); // as 0
    expect(sgr({ underline: true }, '4:0')).toBe(PLAIN);
    expect(sgr(PLAIN, '4:3')).toEqual({ underline: true });
  });

  it('has black or white on a background of any colour', () => {
    expect(shown(`${ESC}[48;2;255;255;0mx`)).toEqual([
      ['x', 'ansi-bg ansi-on-bright [rgb(255, 255, 0)]']
    ]);
    expect(shown(`${ESC}[48;5;18mx`)).toEqual([
      ['x', 'ansi-bg ansi-on-dark [rgb(0, 0, 135)]']
    ]);
  });

  it('keeps a colour readable in each theme where no background is set', () => {
    expect(shown(`${ESC}[38;5;18mx${ESC}[37mx${ESC}[41mx`)).toEqual([
      ['x', 'ansi-fg ansi-any-fg [rgb(0, 0, 135)]'],
      ['x', 'ansi-fg [white]'],
      ['x', 'ansi-fg ansi-bg [#fff] [red-bg]']
    ]);
  });

  it('goes on in the style that a line begins with', () => {
    expect(parse('x', { front: 2 })).toEqual([
      { text: 'x', style: { front: 2 } }
    ]);
  });
});

describe('everything else that a terminal obeys', () => {
  it.each([
    ['a cursor', `a${ESC}[2Ab${ESC}[?25lc${ESC}[10;20Hd`, 'abcd'],
    ['a title', `a${ESC}]0;rm -rf\x07b`, 'ab'],
    ['a link', `${ESC}]8;;http://x\x1b\\text${ESC}]8;;\x1b\\`, 'text'],
    ['a title without an end', `a${ESC}]0;title`, 'a'],
    ['a character set', `${ESC}(Ba${ESC})0b`, 'ab'],
    ['a sequence that was cut off', `a${ESC}[3`, 'a'],
    ['an escape at the end', `a${ESC}`, 'a'],
    ['bells and nothings', 'a\x07\0\x0e\x7f\x85b', 'ab'],
    ['a sequence of the old kind', `${ESC}7a${ESC}8b`, 'ab']
  ])('drops %s', (_, line, text) => {
    expect(plain(line)).toBe(text);
    expect(
      shown(line)
        .map(([words]) => words)
        .join('')
    ).toBe(text);
    expect(plainLines(`${line}\nnext\n`)).toBe(`${text}\nnext\n`);
  });

  it('spells what would turn text around', () => {
    expect(plain('user\u202etxt.exe\u2066\u2028')).toBe(
      'user\\u202etxt.exe\\u2066\\u2028'
    );
  });
});

describe('lines that rewrite themselves', () => {
  it.each([
    ['a progress bar', ' 10%|#   |\r 50%|##  |\r100%|####|', '100%|####|'],
    ['a shorter text', 'abcdef\rxy', 'xycdef'],
    ['a return at the end', 'abc\r', 'abc'],
    ['padding', 'a longer line\rshort        ', 'short'],
    ['backspaces', 'abc\b\bX', 'aXc'],
    ['backspaces at the beginning', '\b\ba', 'a'],
    ['erasing to the end', `abcdef\r${ESC}[Kxy`, 'xy'],
    ['erasing all', `abcdef${ESC}[2K\rxy`, 'xy'],
    ['characters of two units', '😀😀\r😎', '😎😀']
  ])('shows the outcome of %s', (_, line, text) => {
    expect(plain(line)).toBe(text);
    expect(
      shown(line)
        .map(([words]) => words)
        .join('')
    ).toBe(text);
  });

  it('keeps the colour of each character', () => {
    expect(shown(`${ESC}[31mredder\r${ESC}[32mgreen`)).toEqual([
      ['green', 'ansi-fg [green]'],
      ['r', 'ansi-fg [red]']
    ]);
  });

  it('leaves them to be read one by one', () => {
    expect(plainLines('a\r\nb\r\n')).toBe('a\nb\n');
    expect(plainLines('a\rb\n')).toBeNull();
    expect(plainLines('a\bb\n')).toBeNull();
  });
});
