import type { Job } from '../api/contract';

/** Keys of a config, and characters of a value, that a table looks at. */
const KEYS = 100;
const CHARACTERS = 200;

/** What is known of a key: in how many jobs it is, whether they differ in it, and how long its values are. */
export interface IKey {
  count: number;
  first: string;
  differs: boolean;
  longest: number;
}

/** Which keys the configs, metrics and results of jobs have; an entry a kind of column, each by the API. */
export class Keys {
  /** Take a job into account; what is known of one that changed is counted once. */
  add(job: Job, before?: Job): void {
    let of = this.apis.get(job.api_name);
    if (!of) {
      of = { jobs: 0, config: new Map(), metric: new Map(), result: new Map() };
      this.apis.set(job.api_name, of);
    }
    if (!job.config_truncated && (!before || before.config_truncated)) {
      of.jobs += 1;
      count(of.config, flatOf(job));
    }
    if (job.metrics) {
      count(of.metric, Object.entries(job.metrics), before?.metrics);
    }
    if (job.results && !before?.results) {
      count(of.result, Object.entries(job.results));
    }
  }

  /** Return the keys of a kind, those of most jobs first. */
  of(kind: 'config' | 'metric' | 'result', api: string): Map<string, IKey> {
    const found = new Map<string, IKey>();
    for (const [name, of] of this.apis) {
      if (api && name !== api) {
        continue;
      }
      for (const [key, one] of of[kind]) {
        const known = found.get(key);
        const differs = one.differs || one.count < of.jobs;
        found.set(key, {
          count: one.count + (known?.count ?? 0),
          first: one.first,
          differs: differs || (known?.differs ?? false),
          longest: Math.max(one.longest, known?.longest ?? 0)
        });
      }
    }
    return new Map(
      [...found].sort(([, a], [, b]) => Math.sign(b.count - a.count))
    );
  }

  private apis = new Map<
    string,
    {
      jobs: number;
      config: Map<string, IKey>;
      metric: Map<string, IKey>;
      result: Map<string, IKey>;
    }
  >();
}

function count(
  keys: Map<string, IKey>,
  values: Iterable<[string, unknown]>,
  before?: object
): void {
  for (const [key, value] of values) {
    const text = textOf(value);
    const known = keys.get(key);
    if (!known) {
      const longest = text.length;
      keys.set(key, { count: 1, first: text, differs: false, longest });
    } else {
      known.count += before && key in before ? 0 : 1;
      known.differs ||= text !== known.first;
      known.longest = Math.max(known.longest, text.length);
    }
  }
}

/** Return a value in a cell's words. */
export function textOf(value: unknown): string {
  if (value === undefined) {
    return '';
  }
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.slice(0, CHARACTERS);
}

const flats = new WeakMap<Job, Map<string, unknown>>();

/** Return a job's config with a dot between a key and one below it. */
export function flatOf(job: Job): Map<string, unknown> {
  let flat = flats.get(job);
  if (!flat) {
    flat = new Map();
    flatten(job.config, '', flat);
    flats.set(job, flat);
  }
  return flat;
}

function flatten(
  value: unknown,
  path: string,
  into: Map<string, unknown>
): void {
  if (into.size >= KEYS) {
    return;
  }
  if (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    (!path || Object.keys(value).length)
  ) {
    for (const [key, one] of Object.entries(value)) {
      flatten(one, path ? `${path}.${key}` : key, into);
    }
  } else if (path) {
    into.set(path, value);
  }
}
