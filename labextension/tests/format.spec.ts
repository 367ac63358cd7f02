import { describe, expect, it } from 'vitest';

import type { Job } from '../src/api/contract';
import * as format from '../src/ui/format';
import examples from './format.json';

const NOW = new Date(examples.now);

// The same examples are read by the package's tests/test_words.py: both sides use the same words.
describe('format', () => {
  it.each(examples.duration as [number | null, string][])(
    'duration(%j) is %j',
    (seconds, words) => expect(format.duration(seconds)).toBe(words)
  );

  it.each(examples.age as [number, string][])(
    'age(%j s) is %j',
    (seconds, words) => {
      const date = new Date(NOW.getTime() - seconds * 1000);
      expect(format.age(date, NOW)).toBe(words);
    }
  );

  it.each(examples.size as [number | null, string][])(
    'size(%j) is %j',
    (bytes, words) => expect(format.size(bytes)).toBe(words)
  );

  it.each(examples.number as [number, string][])(
    'number(%j) is %j',
    (value, words) => expect(format.number(value)).toBe(words)
  );

  it.each(examples.moment as [string | null, number | null][])(
    'moment(%j) is %j s from now',
    (text, seconds) =>
      expect(format.moment(text)).toEqual(
        seconds === null ? null : new Date(NOW.getTime() + seconds * 1000)
      )
  );

  it.each(examples.clean as [string, string][])(
    'clean(%j) is %j',
    (text, words) => expect(format.clean(text)).toBe(words)
  );

  it.each(examples.jobs)('a job: %j', example => {
    const job = {
      job_id: '6714d9d4822479be',
      api_name: 'train',
      ...example.job
    } as unknown as Job;
    const given = example as { [key: string]: unknown };
    const seen: { [key: string]: unknown } = {
      created: format.created(job),
      took: format.took(job, NOW),
      fraction: format.fraction(job.progress),
      left: format.secondsLeft(job, NOW),
      note: format.note(job)
    };
    for (const name of Object.keys(seen).filter(name => name in given)) {
      const wanted = given[name];
      expect(seen[name], name).toEqual(
        name === 'created' ? format.moment(wanted as string | null) : wanted
      );
    }
  });

  it('says nothing where there is nothing', () => {
    expect(format.duration(Infinity)).toBe('');
    expect(format.duration(undefined)).toBe('');
    expect(format.age(null)).toBe('');
    expect(format.fraction(undefined)).toBeNull();
    expect(format.progressWords(null)).toBe('');
  });

  it('calls a job by the end of its id', () => {
    expect(format.shortId('6714d9d4822479be')).toBe('79be');
  });

  it('cuts by characters, not within one', () => {
    expect(format.clean('🚀🚀🚀', 3)).toBe('🚀🚀🚀');
    expect(format.clean('🚀🚀🚀🚀', 3)).toBe('🚀🚀…');
    expect(format.clean('a lone \ud800', 20)).toBe('a lone \\ud800');
    expect(format.clean('x'.repeat(5000), 10)).toBe(`${'x'.repeat(9)}…`);
  });
});

it('a time of day that falls twice in a night has its offset', () => {
  const before = process.env.TZ;
  process.env.TZ = 'Europe/Berlin';
  try {
    const at = (text: string) => format.clock(new Date(text));
    expect(at('2025-10-26T00:30:00Z')).toContain('GMT+2');
    expect(at('2025-10-26T01:30:00Z')).toContain('GMT+1');
    expect(at('2025-10-26T02:30:00Z')).not.toContain('GMT');
    expect(at('2025-07-26T02:30:00Z')).not.toContain('GMT');
  } finally {
    process.env.TZ = before;
  }
});
