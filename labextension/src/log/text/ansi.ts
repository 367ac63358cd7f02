/**
 * Text that was meant for a terminal: its colours and rewritten lines are shown, all else is removed. No DOM.
 */

/** A colour: one of the 16 of a palette by its number, or a CSS colour. */
export type Colour = number | string;

/** How text looks. Never changed, only replaced. */
export interface IStyle {
  readonly front?: Colour;
  readonly back?: Colour;
  readonly bold?: boolean;
  readonly dim?: boolean;
  readonly italic?: boolean;
  readonly underline?: boolean;
  readonly strike?: boolean;
  readonly inverse?: boolean;
}

/** Text that looks the same from its beginning to its end. */
export interface ISpan {
  text: string;
  style: IStyle;
}

/** Text without a style. */
export const PLAIN: IStyle = Object.freeze({});

const ESC = '\x1b';
const BEL = '\x07';

// A control sequence; titles, links and the like with what they say; any other escape, even one that was cut off.
const SEQUENCES = new RegExp(
  [
    `${ESC}\\[([0-9;:<=>?]*)[ -/]*([@-~])`,
    `${ESC}[\\]PX^_][^${BEL}${ESC}\\n]*(?:${BEL}|${ESC}\\\\|$)`,
    `${ESC}\\[[0-?]*[ -/]*$`,
    `${ESC}[ -/]*[0-~]?`
  ].join('|'),
  'gm'
);

const CONTROLS = '\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f'; // line ends and tabs are drawn

const SILENT = new RegExp(`[${CONTROLS}]`, 'g');

/** Characters that would reverse text or hide in it. */
const DECEIVING =
  /[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb]/g;

const REWRITES = /[\r\b]/;
const PADDING = / +$/;
const ANYTHING = new RegExp(`[${CONTROLS}]|${DECEIVING.source}`);

const NAMES = 'black red green yellow blue magenta cyan white'.split(' ');
const LEVELS = [0, 95, 135, 175, 215, 255];

type Flag = Exclude<keyof IStyle, 'front' | 'back'>;

const ON: { [code: number]: Flag } = {
  1: 'bold',
  2: 'dim',
  3: 'italic',
  4: 'underline',
  7: 'inverse',
  9: 'strike'
};
const OFF: { [code: number]: readonly Flag[] } = {
  22: ['bold', 'dim'],
  23: ['italic'],
  24: ['underline'],
  27: ['inverse'],
  29: ['strike']
};

/** Return the spans that a line consists of, as a terminal would show it. */
export function parse(line: string, style: IStyle = PLAIN): ISpan[] {
  if (!ANYTHING.test(line)) {
    return line ? [{ text: line, style }] : [];
  }
  const spans: ISpan[] = [];
  const put = (text: string) => {
    if (text) {
      spans.push({ text, style });
    }
  };
  const cells = REWRITES.test(line) ? new Cells() : null;
  let at = 0;
  for (const found of line.matchAll(SEQUENCES)) {
    const before = line.slice(at, found.index);
    if (cells) {
      cells.write(before, style);
    } else {
      put(visible(before));
    }
    at = found.index + found[0].length;
    if (found[2] === 'm') {
      style = sgr(style, found[1]);
    } else if (found[2] === 'K') {
      cells?.erase(found[1]);
    }
  }
  if (cells) {
    cells.write(line.slice(at), style);
    return cells.spans();
  }
  put(visible(line.slice(at)));
  return spans;
}

/** Return a line as plain text. */
export function plain(line: string): string {
  if (!ANYTHING.test(line)) {
    return line;
  }
  return REWRITES.test(line)
    ? parse(line)
        .map(span => span.text)
        .join('')
    : visible(line.replace(SEQUENCES, ''));
}

/**
 * Return whole lines as plain text at once; null where a line rewrites itself, which takes `plain`.
 */
export function plainLines(text: string): string | null {
  if (!ANYTHING.test(text)) {
    return text;
  }
  const lines = text.replace(/\r\n/g, '\n');
  return REWRITES.test(lines) ? null : visible(lines.replace(SEQUENCES, ''));
}

/** Return a style after a sequence such as `1;31`; unknown codes change nothing. */
export function sgr(style: IStyle, parameters: string): IStyle {
  if (/[<=>?]/.test(parameters)) {
    return style; // of the keyboard, say
  }
  const codes = parameters.slice(0, 128).split(';').flatMap(numbers);
  const next: { -readonly [key in keyof IStyle]: IStyle[key] } = { ...style };
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at];
    if (code === 0) {
      for (const key of Object.keys(next) as (keyof IStyle)[]) {
        delete next[key];
      }
    } else if (ON[code]) {
      next[ON[code]] = true;
    } else if (OFF[code]) {
      OFF[code].forEach(flag => delete next[flag]);
    } else if (code === 38 || code === 48) {
      const [colour, used] = chosen(codes, at + 1);
      at += used;
      if (colour !== null) {
        next[code === 38 ? 'front' : 'back'] = colour;
      }
    } else if (code === 39) {
      delete next.front;
    } else if (code === 49) {
      delete next.back;
    } else if (code >= 30 && code <= 37) {
      next.front = code - 30;
    } else if (code >= 40 && code <= 47) {
      next.back = code - 40;
    } else if (code >= 90 && code <= 97) {
      next.front = code - 90 + 8;
    } else if (code >= 100 && code <= 107) {
      next.back = code - 100 + 8;
    }
  }
  return Object.keys(next).length ? next : PLAIN;
}

/** Return a style as class names and CSS properties; a theme says what the colours of the palette are. */
export function look(style: IStyle): {
  classes: string[];
  properties: { [name: string]: string };
} {
  const classes: string[] = [];
  const properties: { [name: string]: string } = {};
  let { front, back } = style;
  if (style.inverse) {
    [front, back] = [back, front];
    if (back === undefined) {
      classes.push('ansi-default-inverse-bg');
      if (front === undefined) {
        classes.push('ansi-default-inverse-fg');
      }
    }
  }
  if (front !== undefined) {
    classes.push('ansi-fg');
    properties['--jp-TaskAPI-ansi-fg'] =
      typeof front === 'string'
        ? front
        : (back !== undefined && EXACT[front]) || variable(front);
    if (typeof front === 'string' && back === undefined) {
      classes.push('ansi-any-fg');
    }
  }
  if (back !== undefined) {
    classes.push('ansi-bg');
    properties['--jp-TaskAPI-ansi-bg'] =
      typeof back === 'string' ? back : variable(back, '-bg');
    if (front === undefined) {
      classes.push(isBright(back) ? 'ansi-on-bright' : 'ansi-on-dark');
    }
  }
  for (const flag of Object.values(ON)) {
    if (style[flag] && flag !== 'inverse') {
      classes.push(`ansi-${flag}`);
    }
  }
  return { classes, properties };
}

/** Colours of the palette that are what they are called where a background is set, too. */
const EXACT: { [colour: number]: string } = {
  0: '#000',
  7: '#fff',
  15: '#fff'
};

/** Return the CSS variable of a colour of the palette. */
function variable(colour: number, part = ''): string {
  const intense = colour > 7 ? '-intense' : '';
  return `var(--jp-TaskAPI-ansi-${NAMES[colour % 8]}${intense}${part})`;
}

/** A line that is overwritten, character by character. */
class Cells {
  write(text: string, style: IStyle): void {
    for (const character of text) {
      if (character === '\r') {
        this._at = 0;
      } else if (character === '\b') {
        this._at = Math.max(this._at - 1, 0);
      } else {
        this._characters[this._at] = character;
        this._styles[this._at] = style;
        this._at += 1;
      }
    }
  }

  /** Erase to the end of the line (0), to here (1), or all of it (2). */
  erase(which: string): void {
    if (which === '1' || which === '2') {
      this._characters.fill(' ', 0, this._at);
      this._styles.fill(PLAIN, 0, this._at);
    }
    if (which !== '1') {
      this._characters.length = Math.min(this._at, this._characters.length);
    }
  }

  spans(): ISpan[] {
    const spans: ISpan[] = [];
    let text = '';
    this._characters.forEach((character, at) => {
      text += character;
      if (this._styles[at + 1] !== this._styles[at]) {
        spans.push({ text: visible(text), style: this._styles[at] });
        text = '';
      }
    });
    if (text) {
      const style = this._styles[this._characters.length - 1];
      spans.push({ text: visible(text), style });
    }
    const last = spans[spans.length - 1];
    if (last?.style === PLAIN && PADDING.test(last.text)) {
      last.text = last.text.replace(PADDING, ''); // what a shorter text was padded with
    }
    return spans.filter(span => span.text);
  }

  private _characters: string[] = [];
  private _styles: IStyle[] = [];
  private _at = 0;
}

function visible(text: string): string {
  return text
    .replace(SILENT, '')
    .replace(
      DECEIVING,
      found => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`
    );
}

/** Read one parameter; a colour may be written with colons throughout. */
function numbers(parameter: string): number[] {
  const codes = parameter
    .split(':')
    .map(code => Number.parseInt(code, 10) || 0);
  if (codes[0] === 38 || codes[0] === 48) {
    return codes[1] === 2 && codes.length > 5
      ? [...codes.slice(0, 2), ...codes.slice(3)] // without the name of a colour space
      : codes;
  }
  return codes[0] === 4 && codes[1] === 0 ? [24] : codes.slice(0, 1);
}

/** Read a colour of 256 or of all, with how many codes it took. */
function chosen(codes: number[], at: number): [Colour | null, number] {
  if (codes[at] === 5) {
    const number = Math.min(codes[at + 1] ?? 0, 255);
    if (number < 16) {
      return [number, 2];
    }
    if (number >= 232) {
      const grey = 8 + 10 * (number - 232);
      return [rgb(grey, grey, grey), 2];
    }
    const cube = number - 16;
    return [
      rgb(
        LEVELS[Math.floor(cube / 36)],
        LEVELS[Math.floor(cube / 6) % 6],
        LEVELS[cube % 6]
      ),
      2
    ];
  }
  if (codes[at] === 2) {
    const [red, green, blue] = [1, 2, 3].map(part =>
      Math.min(codes[at + part] ?? 0, 255)
    );
    return [rgb(red, green, blue), 4];
  }
  return [null, 1];
}

function rgb(red: number, green: number, blue: number): string {
  return `rgb(${red}, ${green}, ${blue})`;
}

/** Whether black rather than white is readable on a colour. */
function isBright(colour: Colour): boolean {
  if (typeof colour === 'number') {
    return (
      colour > 8 || NAMES[colour] === 'yellow' || NAMES[colour] === 'white'
    );
  }
  const [red, green, blue] = (colour.match(/\d+/g) ?? []).map(part => {
    const value = Number(part) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.19;
}
