/** Which jobs a search means, as the server has it: each word is in a job, or names a key of its config and a value. */
import type { Job } from '../api/contract';
import { statusOf } from '../api/contract';

/** A word ends at a space, one like `name="two words"` at the second quotation mark. */
const WORD = /[^\s"=:]+[=:]"(?:[^"\\]|\\.)*"(?!\S)|\S+/g;
const SETTING = /^([^=:]+)[=:]([^]+)$/;

/** `lr=0.078` or `lr:0.078`: numbers are compared as numbers, of texts a part is enough unless it is quoted. */
interface ISetting {
  key: string;
  text: string;
  /** The value as JSON has it; undefined where it is plain text. */
  value: unknown;
}

/** A search, as somebody typed it. */
export class Search {
  constructor(text: string) {
    this.words = (text.toLowerCase().match(WORD) ?? []).map(word => ({
      word,
      setting: settingOf(word)
    }));
  }

  fits(job: Job): boolean {
    return this.words.every(
      ({ word, setting }) =>
        textOf(job).includes(word) ||
        (setting !== null && holds(job.config, setting, ''))
    );
  }

  private words: { word: string; setting: ISetting | null }[];
}

function settingOf(word: string): ISetting | null {
  const [, key, text] = SETTING.exec(word) ?? [];
  if (!key) {
    return null;
  }
  try {
    return { key, text, value: JSON.parse(text) as unknown };
  } catch {
    return { key, text, value: text === 'none' ? null : undefined };
  }
}

function holds(config: unknown, setting: ISetting, path: string): boolean {
  if (Array.isArray(config)) {
    return config.some(one => holds(one, setting, path));
  }
  if (typeof config !== 'object' || config === null) {
    return false;
  }
  const { key } = setting;
  return Object.entries(config).some(([name, value]) => {
    const below = (path ? `${path}.${name}` : name).toLowerCase();
    return (
      ((below === key || below.endsWith(`.${key}`)) && is(value, setting)) ||
      holds(value, setting, below)
    );
  });
}

function is(value: unknown, { text, value: wanted }: ISetting): boolean {
  if (typeof value === 'string') {
    const known = value.toLowerCase();
    return known.includes(text) || known === wanted;
  }
  return (
    wanted !== undefined &&
    JSON.stringify(value).toLowerCase() === JSON.stringify(wanted)
  );
}

const texts = new WeakMap<Job, string>();

/** Return the text that a search looks through, cached: a job that changes is another object. */
export function textOf(job: Job): string {
  let text = texts.get(job);
  if (text === undefined) {
    const config = JSON.stringify(job.config ?? {}).slice(0, 10_000);
    text = [
      job.job_id,
      job.api_name,
      statusOf(job).replace(/_/g, ' '),
      job.notebook,
      job.reason,
      job.schedule,
      job.progress?.message,
      config
    ]
      .join('\n')
      .toLowerCase();
    texts.set(job, text);
  }
  return text;
}
