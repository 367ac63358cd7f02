import { closeIcon } from '@jupyterlab/ui-components';
import React from 'react';

import type { Job } from '../api/contract';
import { statusOf } from '../api/contract';
import { IconButton, StatusIcon, useSignal } from '../ui/components';
import { clean, shortId } from '../ui/format';
import { ColumnChart, MetricChart } from './chart';
import type { IColumn } from './columns';
import { flatOf, textOf } from './keys';
import type { IPageProps } from './props';

/** Jobs that are compared, a column each. */
const MOST = 20;

/** Characters of a value that a cell shows. */
const SHOWN = 120;

/** What is below the table: the chosen jobs side by side, and charts of them. */
export function Compare(props: IPageProps): JSX.Element {
  const { source, state, trans } = props;
  useSignal(source.changed);
  useSignal(state.changed);
  const [tab, setTab] = React.useState(0);
  const id = React.useId();
  const { chosen, shown } = state;
  const compared = chosen.slice(0, MOST);
  const ids = state.comparing ? compared.map(job => job.job_id).join() : '';
  React.useEffect(() => {
    if (ids) {
      void source.whole(ids.split(','));
    }
  }, [source, ids]);
  if (!state.comparing) {
    return <></>;
  }
  const tabs = [
    trans.__('Side by side'),
    trans.__('Metrics over steps'),
    trans.__('Column against column')
  ];
  const few = compared.length < 2 && tab === 0;
  return (
    <div className="jp-TaskAPI-Compare">
      <div className="jp-TaskAPI-Compare-head">
        <div
          role="tablist"
          aria-label={trans.__('Compare')}
          onKeyDown={event => {
            const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
            if (step) {
              const to = (tab + step + tabs.length) % tabs.length;
              setTab(to);
              const all =
                event.currentTarget.querySelectorAll<HTMLElement>('[role=tab]');
              all[to].focus();
            }
          }}
        >
          {tabs.map((label, index) => (
            <button
              key={label}
              type="button"
              role="tab"
              id={`${id}-tab-${index}`}
              aria-controls={`${id}-panel`}
              aria-selected={tab === index}
              tabIndex={tab === index ? 0 : -1}
              onClick={() => setTab(index)}
            >
              {label}
            </button>
          ))}
        </div>
        <span className="jp-TaskAPI-faint" role="status">
          {tab < 2 &&
            chosen.length > MOST &&
            trans.__('the first %1 of %2 chosen', MOST, chosen.length)}
          {tab === 2 &&
            (chosen.length > 1
              ? trans.__('%1 chosen jobs', chosen.length)
              : trans.__('all %1 jobs that are shown', shown.length))}
        </span>
        <IconButton
          icon={closeIcon}
          label={trans.__('Close the comparison')}
          onClick={() => state.set({ comparing: false })}
        />
      </div>
      <div
        role="tabpanel"
        id={`${id}-panel`}
        aria-labelledby={`${id}-tab-${tab}`}
        className="jp-TaskAPI-Compare-panel"
        tabIndex={0}
      >
        {few || (tab === 1 && !compared.length) ? (
          <p className="jp-TaskAPI-Note">
            {trans.__(
              'Choose jobs in the table: Ctrl+click adds one, Shift+click all up to it, Ctrl+A all.'
            )}
          </p>
        ) : tab === 0 ? (
          <SideBySide {...props} jobs={compared} />
        ) : tab === 1 ? (
          <MetricChart {...props} jobs={compared} />
        ) : (
          <ColumnChart {...props} jobs={chosen.length > 1 ? chosen : shown} />
        )}
      </div>
    </div>
  );
}

interface ILine {
  key: string;
  label: string;
  cells: string[];
  differs: boolean;
}

/** Configs, metrics and results, a column a job; what differs is marked. */
function SideBySide({
  state,
  trans,
  jobs
}: IPageProps & { jobs: readonly Job[] }): JSX.Element {
  const [only, setOnly] = React.useState(false);
  const id = React.useId();
  const now = new Date();
  const columns = state.columns.all;
  const line = (key: string, label: string, cells: string[]): ILine => ({
    key,
    label,
    cells,
    differs: new Set(cells).size > 1
  });
  const keys = [...new Set(jobs.flatMap(job => [...flatOf(job).keys()]))];
  const bags = (kind: 'metrics' | 'results') => {
    const bagOf = (job: Job) => (job[kind] ?? {}) as { [key: string]: unknown };
    const names = [...new Set(jobs.flatMap(job => Object.keys(bagOf(job))))];
    return names.map(name =>
      line(
        name,
        clean(name, 60),
        jobs.map(job => textOf(bagOf(job)[name]))
      )
    );
  };
  const facts = [
    'api',
    'group',
    'notebook',
    'duration',
    'memory',
    'cpu',
    'note'
  ];
  const sections: [string, ILine[]][] = [
    [
      trans.__('Config'),
      keys.map(key =>
        line(
          key,
          clean(key, 60),
          jobs.map(job => textOf(flatOf(job).get(key)))
        )
      )
    ],
    [trans.__('Metrics'), bags('metrics')],
    [trans.__('Results'), bags('results')],
    [
      trans.__('Job'),
      columns
        .filter((column: IColumn) => facts.includes(column.id))
        .map(column =>
          line(
            column.id,
            column.label,
            jobs.map(
              job => column.text?.(job, now) ?? String(column.value(job) ?? '')
            )
          )
        )
        .filter(({ cells }) => cells.some(Boolean))
    ]
  ];
  return (
    <>
      <label className="jp-TaskAPI-Compare-only" htmlFor={id}>
        <input
          id={id}
          type="checkbox"
          checked={only}
          onChange={event => setOnly(event.currentTarget.checked)}
        />
        {trans.__('Only what differs')}
      </label>
      <table className="jp-TaskAPI-Compare-table">
        <caption className="jp-TaskAPI-Hidden">
          {trans.__('The chosen jobs, side by side')}
        </caption>
        <thead>
          <tr>
            <td />
            {jobs.map(job => (
              <th key={job.job_id} scope="col" title={job.job_id}>
                <StatusIcon status={statusOf(job)} />
                <span className="jp-TaskAPI-ellipsis">{job.api_name}</span>
                <span className="jp-TaskAPI-faint">{shortId(job.job_id)}</span>
              </th>
            ))}
          </tr>
        </thead>
        {sections
          .map(
            ([title, lines]) =>
              [title, only ? lines.filter(one => one.differs) : lines] as const
          )
          .filter(([, lines]) => lines.length)
          .map(([title, lines]) => (
            <tbody key={title}>
              <tr>
                <th scope="rowgroup" colSpan={jobs.length + 1}>
                  {title}
                </th>
              </tr>
              {lines.map(({ key, label, cells, differs }) => (
                <tr key={key} className={differs ? 'jp-mod-differs' : ''}>
                  <th scope="row" title={label}>
                    {differs && (
                      <span
                        className="jp-TaskAPI-Compare-mark"
                        role="img"
                        aria-label={trans.__('differs')}
                      >
                        ≠
                      </span>
                    )}
                    <span>{label}</span>
                  </th>
                  {cells.map((cell, index) => (
                    <td
                      key={jobs[index].job_id}
                      title={cell.length > 20 ? cell : undefined}
                    >
                      {clean(cell, SHOWN)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          ))}
      </table>
    </>
  );
}
