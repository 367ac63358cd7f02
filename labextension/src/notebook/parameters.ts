import type { ICell, INotebookContent } from '@jupyterlab/nbformat';

import { isCode, textOf } from './cells';

/** A value that a Python literal and JSON both have. */
export type Value =
  null | boolean | number | string | Value[] | { [key: string]: Value };

/** A parameter of a notebook, as its cell tagged `parameters` assigns it. */
export interface IAssigned {
  name: string;
  /** As it is written there. */
  source: string;
  /** Its value; undefined for an expression, and for a number that JavaScript would round. */
  value?: Value;
  /** The comment behind it. */
  help: string;
}

/** Return the parameters of a notebook; null where no cell of it is tagged `parameters`, or it is not in Python. */
export function parametersIn(notebook: INotebookContent): IAssigned[] | null {
  const { kernelspec, language_info } = notebook.metadata ?? {};
  const language = String(
    kernelspec?.language || language_info?.name || 'python'
  );
  const cell = notebook.cells.find(isParameters);
  return cell && language.toLowerCase() === 'python'
    ? assignedIn(textOf(cell.source))
    : null;
}

function isParameters(cell: ICell): boolean {
  const { tags } = cell.metadata;
  return isCode(cell) && Array.isArray(tags) && tags.includes('parameters');
}

const ASSIGNMENT = /^([\p{L}_][\p{L}\p{N}_]*)[ \t]*(?::[^=#\n]+)?=(?!=)[ \t]*/u;

/** Return the names that lines of Python assign, the last value of each: `name = literal  # comment`. */
export function assignedIn(text: string): IAssigned[] {
  const found = new Map<string, IAssigned>();
  let rest = text.replace(/\r\n?/g, '\n');
  while (rest) {
    const match = ASSIGNMENT.exec(rest);
    if (match) {
      rest = rest.slice(match[0].length);
      const [value, length] = literal(rest) ?? [undefined, lineOf(rest).length];
      const after = lineOf(rest.slice(length));
      const isAll = /^[ \t]*(#.*)?$/.test(after); // else it is the beginning of an expression
      const end = isAll ? length : lineOf(rest).length;
      const [, source, comment = ''] =
        (!isAll && /^(.*?)(?:[ \t]#[ \t]*(.*))?$/.exec(lineOf(rest))) || [];
      found.set(match[1], {
        name: match[1],
        source: (source ?? rest.slice(0, length)).trim(),
        ...(isAll && value !== undefined ? { value } : {}),
        help: (isAll ? after.replace(/^[ \t]*#?[ \t]*/, '') : comment).trim()
      });
      rest = rest.slice(end);
    }
    rest = rest.slice(lineOf(rest).length + 1);
  }
  return [...found.values()];
}

function lineOf(text: string): string {
  const end = text.indexOf('\n');
  return end < 0 ? text : text.slice(0, end);
}

const SPACE = /^(?:\s|#.*)*/;
const NUMBER = /^[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?/;
const STRING = /^(?:"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)')/;
const WORDS: { [word: string]: Value } = {
  True: true,
  False: false,
  None: null
};
const CLOSING: { [open: string]: string } = { '[': ']', '(': ')', '{': '}' };

/** Read the Python literal that a text begins with; return its value and its length, null for anything else. */
function literal(text: string): [Value | undefined, number] | null {
  const word = /^(?:True|False|None)\b/.exec(text);
  if (word) {
    return [WORDS[word[0]], word[0].length];
  }
  const string = STRING.exec(text);
  if (string) {
    const value = unescaped(string[1] ?? string[2]);
    return value === null ? null : [value, string[0].length];
  }
  const number = NUMBER.exec(text);
  if (number) {
    const value = Number(number[0].replace(/_/g, ''));
    const isExact = /[.eE]/.test(number[0]) || Number.isSafeInteger(value);
    return [isExact ? value : undefined, number[0].length];
  }
  return text[0] in CLOSING ? collection(text) : null;
}

/** Read a list, a tuple (which JSON has as a list) or a dictionary. */
function collection(text: string): [Value | undefined, number] | null {
  const isMapping = text[0] === '{';
  const keys: Value[] = [];
  const values: (Value | undefined)[] = [];
  let at = 1;
  let isSequence = text[0] !== '('; // `(1)` is a number in parentheses
  const skip = () => {
    at += SPACE.exec(text.slice(at))![0].length;
  };
  const next = () => {
    skip();
    const read = literal(text.slice(at));
    at += read?.[1] ?? 0;
    skip();
    return read;
  };
  for (skip(); text[at] !== CLOSING[text[0]]; skip()) {
    if (isMapping) {
      const key = next();
      if (typeof key?.[0] !== 'string' || text[at] !== ':') {
        return null;
      }
      keys.push(key[0]);
      at += 1;
    }
    const value = next();
    if (!value) {
      return null;
    }
    values.push(value[0]);
    if (text[at] === ',') {
      isSequence = true;
      at += 1;
    } else if (text[at] !== CLOSING[text[0]]) {
      return null;
    }
  }
  if (values.includes(undefined)) {
    return [undefined, at + 1];
  }
  const exact = values as Value[];
  const value = isMapping
    ? Object.fromEntries(keys.map((key, index) => [key, exact[index]]))
    : isSequence || !exact.length
      ? exact
      : exact[0];
  return [value, at + 1];
}

const ESCAPES: { [character: string]: string } = {
  n: '\n',
  t: '\t',
  r: '\r',
  '\\': '\\',
  "'": "'",
  '"': '"'
};

/** Return what the inside of a string stands for; null where it has an escape that is not read here. */
function unescaped(inside: string): string | null {
  let isKnown = true;
  const text = inside.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([^]))/g,
    (_, x?: string, u?: string, one?: string) => {
      isKnown &&= one === undefined || one in ESCAPES;
      return one === undefined
        ? String.fromCharCode(parseInt((x ?? u)!, 16))
        : ESCAPES[one];
    }
  );
  return isKnown ? text : null;
}

/** How a parameter is written in a form: the type of its default, `json` for any other. */
export type Kind = 'boolean' | 'number' | 'text' | 'json';

export function kindOf({ value }: IAssigned): Kind {
  return typeof value === 'boolean'
    ? 'boolean'
    : typeof value === 'number'
      ? 'number'
      : typeof value === 'string'
        ? 'text'
        : 'json';
}

/** Return what a form's field begins with; empty for what is not known. */
export function fieldOf(one: IAssigned): string {
  return typeof one.value === 'string'
    ? one.value
    : one.value === undefined
      ? ''
      : JSON.stringify(one.value);
}

/** Read a form's field; undefined where the text is none of its kind. */
export function valueOf(kind: Kind, text: string): Value | undefined {
  if (kind === 'text') {
    return text;
  }
  try {
    const value = JSON.parse(text) as Value;
    return kind === 'json' || typeof value === kind ? value : undefined;
  } catch {
    return undefined;
  }
}
