import { Button } from '@jupyterlab/ui-components';
import React from 'react';

import type { Filter } from '../model/jobs';
import { useSignal } from '../ui/components';
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
  const shown = state.pick(jobs.all, found?.ids);
  const older = jobs.hasOlder(filter) ?? jobs.hasOlder() ?? false;
  // A narrowed list may hold jobs that were not read so far, or that mention a word in a config that lists leave out.
  const unread =
    state.narrowed &&
    jobs.hasOlder(filter) === undefined &&
    (older || (!!filter.search && jobs.all.some(job => job.config_truncated)));

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
        <Rows {...props} jobs={shown} />
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
  if (state.narrowed && current.all.length > 0) {
    return <p className="jp-TaskAPI-Empty">{trans.__('No job matches.')}</p>;
  }
  return (
    <p className="jp-TaskAPI-Empty">
      {trans.__('No jobs yet. Submit one above, or from a notebook:')}
      <code>%taskapi submit NAME</code>
    </p>
  );
}
