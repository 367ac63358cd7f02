import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import type { API } from '../api/contract';
import { definitionOf, parametersOf } from '../api/contract';
import { cut } from '../ui/format';
import { pretty } from '../ui/components';
import { Value } from './outputs';
import type { Config } from './submit';

/** Characters of a config that is shown key by key; a larger one is shown as it is. */
const SHOWN = 50_000;

/** Characters of a value that was replaced. */
const REPLACED = 60;

/** A version of an API, as far as it matters here. */
export type IVersion = Pick<API, 'spec'>;

/** One key of a merged config. */
interface IEntry {
  key: string;
  value: unknown;
  /** The value that the job's own one replaced: of the API's config, or a parameter's default. */
  replaced?: unknown;
  /** Whether neither the job nor its API says so: it is a parameter's default. */
  isDefault: boolean;
}

/** Return what a task was called with: its API's config, over it the job's own, and what defaults are left. */
export function mergedOf(config: Config, api: IVersion | null): IEntry[] {
  const own = (api && definitionOf(api).config) ?? {};
  const defaults = new Map(
    ((api && parametersOf(api)) ?? [])
      .filter(one => 'default' in one)
      .map(one => [one.name, one.default])
  );
  const base = new Map([...defaults, ...Object.entries(own)]);
  const entries = Object.entries(config).map(([key, value]): IEntry => {
    const before = base.get(key);
    return base.has(key) && JSON.stringify(before) !== JSON.stringify(value)
      ? { key, value, replaced: before, isDefault: false }
      : { key, value, isDefault: false };
  });
  const left = [...base]
    .filter(([key]) => !(key in config))
    .map(([key, value]) => ({ key, value, isDefault: !(key in own) }));
  return [
    ...entries,
    ...left.filter(one => !one.isDefault),
    ...left.filter(one => one.isDefault)
  ];
}

/** A job's config as JSON; what it replaced is marked, with the value that the API has. */
export function ConfigValue({
  config,
  api,
  trans
}: {
  config: Config;
  /** The version that the job runs; null while it is unknown. */
  api: IVersion | null;
  trans: TranslationBundle;
}): JSX.Element {
  const title = trans.__('Config');
  const entries = React.useMemo(() => mergedOf(config, api), [config, api]);
  const merged = React.useMemo(() => {
    const given = entries.filter(one => !one.isDefault);
    return Object.fromEntries(given.map(({ key, value }) => [key, value]));
  }, [entries]);
  const isLarge = React.useMemo(() => pretty(merged).length > SHOWN, [merged]);
  const count = entries.filter(one => 'replaced' in one).length;
  const last = entries.filter(one => !one.isDefault).length - 1;
  if (isLarge || !entries.length) {
    return <Value title={title} value={merged} trans={trans} />;
  }
  return (
    <Value title={title} value={merged} trans={trans}>
      {'{\n'}
      {entries.map(({ key, value, isDefault, ...entry }, index) => {
        const text = `${JSON.stringify(key)}: ${pretty(value)}`;
        const line = `  ${text.replace(/\n/g, '\n  ')}${index < last ? ',' : ''}`;
        if (isDefault) {
          return (
            <span key={key} className="jp-TaskAPI-Config-default">
              {`${line}  `}
              <small>{trans.__('default')}</small>
              {'\n'}
            </span>
          );
        }
        return 'replaced' in entry ? (
          <React.Fragment key={key}>
            <mark title={trans.__('Overridden by this job')}>{line}</mark>
            <small>
              {`  ${trans.__('was %1', cut(JSON.stringify(entry.replaced), REPLACED))}`}
            </small>
            {'\n'}
          </React.Fragment>
        ) : (
          `${line}\n`
        );
      })}
      {'}'}
      {count > 0 && (
        <span className="jp-TaskAPI-Hidden">
          {trans._n(
            '%2 value is overridden by this job',
            '%2 values are overridden by this job',
            count,
            count
          )}
        </span>
      )}
    </Value>
  );
}
