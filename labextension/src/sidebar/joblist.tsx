import { Button } from '@jupyterlab/ui-components';
import React from 'react';

import { useSignal } from '../ui/components';
import { Filters } from './filters';
import type { IListProps } from './props';
import { Rows } from './rows';

/** The jobs of an environment: filters, and a list of which only what is in view is drawn. */
export function JobList(props: IListProps): JSX.Element {
  const { model, state, trans } = props;
  useSignal(model.changed);
  useSignal(state.changed);
  const jobs = model.current;
  const shown = state.pick(jobs.all);
  const filter = {
    api: state.api || undefined,
    status: state.status ? [state.status] : undefined
  };
  const older = jobs.hasOlder(filter) ?? jobs.hasOlder() ?? false;

  React.useEffect(() => {
    // A narrowed list may hold jobs that are older than those that were read so far.
    if (
      older &&
      (state.api || state.status) &&
      jobs.hasOlder(filter) === undefined
    ) {
      void jobs.older(filter);
    }
  });

  return (
    <div className="jp-TaskAPI-Jobs">
      <Filters {...props} shown={shown.length} />
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
