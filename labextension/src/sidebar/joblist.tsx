import { Button } from '@jupyterlab/ui-components';
import React from 'react';

import { nameOf } from '../api/contract';
import type { Filter } from '../model/jobs';
import { useSignal } from '../ui/components';
import { entriesOf } from './entries';
import { Filters } from './filters';
import type { IListProps } from './props';
import { Rows } from './rows';

/** Milliseconds without another letter until a search is asked for. */
const TYPING = 250;

/** The jobs of an environment: filters, and a list of which only what is in view is drawn. */
export function JobList(props: IListProps): JSX.Element {
  const { model, state, trans } = props;
  useSignal(model.changed);
  useSignal(state.changed);
  const jobs = model.current;
  const { filter } = state;
  const found = jobs.found(filter);
  const { openGroups } = state;
  React.useEffect(() => jobs.watchGroups(openGroups), [jobs, openGroups]);
  const entries = entriesOf(jobs, state);
  const shown = entries.filter(
    entry =>
      entry.kind === 'group' || (entry.kind === 'job' && !entry.job.group)
  );
  const older = jobs.hasOlder(filter) ?? jobs.hasOlder() ?? false;
  // A narrowed list may hold jobs that were not read so far, or that mention a word in a config that lists leave out.
  const unread =
    state.narrowed &&
    jobs.hasOlder(filter) === undefined &&
    (older ||
      (!!filter.search &&
        (jobs.groups.length > 0 ||
          jobs.all.some(job => job.config_truncated))));

  const wanted = JSON.stringify(filter);
  React.useEffect(() => {
    if (unread) {
      const asked = JSON.parse(wanted) as Filter;
      const pause = asked.search ? TYPING : 0;
      const timer = setTimeout(() => void jobs.older(asked), pause);
      return () => clearTimeout(timer);
    }
  }, [unread, jobs, wanted]);

  return (
    <div className="jp-TaskAPI-Jobs">
      <Filters
        {...props}
        shown={filter.search ? shown.length : jobs.total(filter)}
        searched={older ? found?.searched : undefined}
      />
      {shown.length === 0 ? (
        <Empty {...props} />
      ) : (
        <Rows {...props} entries={entries} />
      )}
      {older && (
        <Button
          small
          className="jp-TaskAPI-Older"
          onClick={() => void jobs.older(filter)}
        >
          {state.search
            ? trans.__('Search older jobs')
            : trans.__('Show older jobs')}
        </Button>
      )}
    </div>
  );
}

function Empty({ model, state, trans }: IListProps): JSX.Element {
  const { current } = model;
  if (!current.loaded) {
    return current.error ? (
      <></>
    ) : (
      <p className="jp-TaskAPI-Empty">{trans.__('Loading…')}</p>
    );
  }
  if (state.narrowed && current.total() > 0) {
    return <p className="jp-TaskAPI-Empty">{trans.__('No job matches.')}</p>;
  }
  return (
    <p className="jp-TaskAPI-Empty">
      {current.apis.length ? (
        <>
          {trans.__('No jobs yet. Submit one above, or from a notebook:')}
          <code>%taskapi submit {nameOf(current.apis[0])}</code>
        </>
      ) : (
        trans.__('No jobs yet.')
      )}
    </p>
  );
}
