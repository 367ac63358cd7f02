/** What a row says of a job beside its API and status: its group, what of its config is special, its result. */
import React from 'react';

import type { TaskAPIClient } from '../api/client';
import type { Job } from '../api/contract';
import { statusOf } from '../api/contract';
import type { Jobs } from '../model/jobs';
import type { TaskAPIModel } from '../model/model';
import { clean, number, shortId } from '../ui/format';
import { groupName } from './group';

/** Jobs of one API that are compared, from the newest on. */
const COMPARED = 1_000;

/** Characters of a value, and of all that is said. */
const VALUE = 24;
const ALL = 160;

/** Milliseconds that rows stay in view before more is asked about them: others fly by. */
const STAYS = 150;

/** Jobs of which it is remembered what was asked. */
const REMEMBERED = 20_000;

type Values = ReadonlyMap<string, string>;

const values = new WeakMap<Job, Values>();

/** Return the values of a job's config as JSON, cached: a job that changes is another object. */
function valuesOf(job: Job): Values {
  let found = values.get(job);
  if (found === undefined) {
    const entries = Object.entries(job.config ?? {});
    found = new Map(entries.map(([key, one]) => [key, JSON.stringify(one)]));
    values.set(job, found);
  }
  return found;
}

/** Return for each API the keys of configs that are not the same in all of its jobs; large configs are left out. */
export function differing(
  jobs: readonly Job[]
): ReadonlyMap<string, ReadonlySet<string>> {
  const first = new Map<string, Values>();
  const counts = new Map<string, number>();
  const differ = new Map<string, Set<string>>();
  for (const job of jobs) {
    const { api_name: api } = job;
    const count = counts.get(api) ?? 0;
    if (count === COMPARED || job.config_truncated) {
      continue;
    }
    counts.set(api, count + 1);
    const own = valuesOf(job);
    const other = first.get(api);
    if (!other) {
      first.set(api, own);
      differ.set(api, new Set());
      continue;
    }
    const keys = differ.get(api)!;
    own.forEach((value, key) => {
      if (other.get(key) !== value) {
        keys.add(key);
      }
    });
    other.forEach((_, key) => {
      if (!own.has(key)) {
        keys.add(key);
      }
    });
  }
  return differ;
}

/** Return the keys of a job's config that are among some, with their values: `lr=0.1 layers=[64,64]`. */
export function specialOf(job: Job, keys?: ReadonlySet<string>): string {
  const own = [...valuesOf(job)].filter(([key]) => keys?.has(key));
  const said = own.map(
    ([key, text]) => `${clean(key, VALUE)}=${clean(bare(text), VALUE)}`
  );
  return clean(said.join(' '), ALL);
}

/** A text without its quotes where nothing else could be meant. */
function bare(json: string): string {
  return /^"[A-Za-z_][\w./-]*"$/.test(json) ? json.slice(1, -1) : json;
}

/** Return what is scalar in a result: `0.93`, or `accuracy=0.93 loss=0.1`. */
export function resultWords(results: { [name: string]: unknown }): string {
  const said = Object.entries(results).map(([name, value]) => {
    const words =
      typeof value === 'number' ? number(value) : clean(String(value), VALUE);
    return name === 'result' ? words : `${clean(name, VALUE)}=${words}`;
  });
  return clean(said.join(' '), ALL);
}

/** What was asked for once and stays as it is, by environment and id; what there is none of is empty. */
const results = new Map<string, string>();

function keyOf(environment: string, id: string): string {
  return `${environment}/${id}`;
}

function remember(known: Map<string, string>, key: string, text: string): void {
  known.set(key, text);
  if (known.size > REMEMBERED) {
    known.delete(known.keys().next().value!);
  }
}

/** Ask for the results of some jobs. */
async function askResults(
  client: TaskAPIClient,
  environment: string,
  ids: readonly string[]
): Promise<void> {
  const { jobs } = await client.jobs(environment, { ids, results: true });
  const found = new Map(jobs.map(job => [job.job_id, job.results]));
  ids.forEach(id =>
    remember(results, keyOf(environment, id), resultWords(found.get(id) ?? {}))
  );
}

/**
 * Return what rows say of the jobs in view, beside what is in the jobs themselves: results, each asked for once, and
 * only of rows that stay.
 */
export function useWords(
  { client, environment }: TaskAPIModel,
  jobs: readonly Job[]
): (job: Job, keys?: ReadonlySet<string>) => string {
  const [, draw] = React.useReducer((count: number) => count + 1, 0);
  const succeeded = jobs.filter(
    job =>
      statusOf(job) === 'succeeded' &&
      !results.has(keyOf(environment, job.job_id))
  );
  const wanted = JSON.stringify(succeeded.map(job => job.job_id));
  React.useEffect(() => {
    const ids = JSON.parse(wanted) as string[];
    if (!ids.length) {
      return;
    }
    let current = true;
    const timer = setTimeout(() => {
      void askResults(client, environment, ids).then(
        () => current && draw(),
        () => undefined // it is asked for again with other rows
      );
    }, STAYS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [client, environment, wanted]);
  return (job, keys) => {
    const result = results.get(keyOf(environment, job.job_id));
    return [
      job.index !== undefined && `[${job.index}]`,
      specialOf(job, keys),
      result && `→ ${result}`
    ]
      .filter(Boolean)
      .join(' · ')
      .replace(' · →', ' →');
  };
}

/** The name of a job's group, and its place in it, as Python has it: `rates[3]`. */
export function GroupName({
  job: { group = '', index },
  jobs
}: {
  job: Job;
  jobs: Jobs;
}): JSX.Element {
  const known = jobs.getGroup(group);
  const name = known ? groupName(known, 60) : `g${shortId(group)}`;
  return <span title={group}>{`${name}[${index ?? ''}]`}</span>;
}
