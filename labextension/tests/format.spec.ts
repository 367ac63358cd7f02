import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { Interpreter, Job } from '../src/api/contract';
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

  it.each(examples.ahead as [number, string][])(
    'ahead(%j s) is %j',
    (seconds, words) => {
      const date = new Date(NOW.getTime() + seconds * 1000);
      expect(format.ahead(date, NOW)).toBe(words);
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

  it.each(examples.environments as [Interpreter, number | null, string][])(
    'an environment: %j, %j packages',
    (python, packages, words) => {
      const since = new Date('2026-03-04T05:05:00Z');
      const absent = 'built when its next job starts';
      expect(
        format.environmentWords(python, packages, since, absent, NOW)
      ).toBe(words);
    }
  );

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

describe('a time', () => {
  const before = process.env.TZ;
  beforeAll(() => {
    process.env.TZ = 'Europe/Berlin';
  });
  afterAll(() => {
    process.env.TZ = before;
  });

  it.each([
    ['2025-07-26T02:30:05Z', '04:30:05'],
    ['2025-07-25T02:30:05Z', 'Jul 25, 04:30'],
    ['2024-07-25T02:30:05Z', '2024-07-25 04:30'],
    ['2025-10-26T00:30:00Z', 'Oct 26, 02:30 +0200'],
    ['2025-10-26T01:30:00Z', 'Oct 26, 02:30 +0100'],
    ['2025-10-26T02:30:00Z', 'Oct 26, 03:30'],
    ['2025-10-25T23:30:00Z', 'Oct 26, 01:30']
  ])('%s is %s', (text, words) => {
    const now = new Date('2025-07-26T12:00:00Z');
    expect(format.local(new Date(text), now)).toBe(words);
  });

  it('in full has its offset', () => {
    expect(format.stamp(new Date('2025-07-06T02:30:05Z'))).toBe(
      '2025-07-06 04:30:05 +0200'
    );
  });
});

it.each([
  [1.2 * 1024 ** 3, 8 * 1024 ** 3, '1.2 of 8 GiB'],
  [1024 ** 3, 1024 ** 3, '1 of 1 GiB'],
  [50 * 1024 ** 2, 8 * 1024 ** 3, '50 MiB of 8 GiB'],
  [300 * 1024 ** 2, 512 * 1024 ** 2, '300 of 512 MiB'],
  [50 * 1024 ** 2, undefined, '50 MiB']
])('%d of %d bytes is %s', (bytes, limit, words) => {
  expect(format.sizeOf(bytes, limit)).toBe(words);
});
