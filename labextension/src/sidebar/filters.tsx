import {
  Button,
  cleaningIcon,
  closeIcon,
  HTMLSelect,
  InputGroup
} from '@jupyterlab/ui-components';
import React from 'react';

import type { Group } from '../api/contract';
import { goingOf, hasEnded, nameOf, STATUSES } from '../api/contract';
import { CommandIDs } from '../tokens';
import { IconButton, statusLabel } from '../ui/components';
import { clean } from '../ui/format';
import type { IListProps } from './props';
import type { Sort } from './state';
import { SORTS } from './state';

/** Whether jobs of a group have ended. */
function isPartlyEnded(group: Group): boolean {
  return group.size > goingOf(group);
}

/** What narrows the list of jobs down, and sorts it. */
export function Filters({
  model,
  state,
  commands,
  trans,
  shown,
  searched
}: IListProps & { shown: number; searched?: number }): JSX.Element {
  const sorts: { [sort in Sort]: string } = {
    progress: trans.__('Active first'),
    newest: trans.__('Newest'),
    oldest: trans.__('Oldest'),
    api: trans.__('API'),
    status: trans.__('Status'),
    longest: trans.__('Longest')
  };
  const apis = new Set(model.current.apis.map(nameOf));
  model.current.all.forEach(job => apis.add(job.api_name));
  model.current.groups.forEach(group => apis.add(group.api_name));
  if (state.api) {
    apis.add(state.api);
  }
  const total = model.current.total();
  return (
    <div
      className="jp-TaskAPI-Filters"
      role="search"
      aria-label={trans.__('Jobs')}
    >
      <div className="jp-TaskAPI-Filters-row">
        <InputGroup
          type="search"
          className="jp-TaskAPI-Search"
          placeholder={trans.__('Search jobs')}
          aria-label={trans.__(
            'Search jobs by id, API, status, notebook, config or reason'
          )}
          value={state.search}
          rightIcon="ui-components:search"
          onChange={event => state.set({ search: event.currentTarget.value })}
        />
        {model.keeps(model.environment) && (
          <IconButton
            icon={cleaningIcon}
            label={trans.__('Delete ended jobs…')}
            disabled={
              !model.current.all.some(hasEnded) &&
              !model.current.groups.some(isPartlyEnded)
            }
            onClick={() => void commands.execute(CommandIDs.purge)}
          />
        )}
      </div>
      <div className="jp-TaskAPI-Selects">
        <HTMLSelect
          aria-label={trans.__('Status')}
          value={state.status}
          onChange={event => state.set({ status: event.currentTarget.value })}
          options={[
            { value: '', label: trans.__('Status') },
            ...STATUSES.map(value => ({
              value,
              label: statusLabel(value, trans)
            }))
          ]}
        />
        <HTMLSelect
          aria-label={trans.__('API')}
          value={state.api}
          onChange={event => state.set({ api: event.currentTarget.value })}
          options={[
            { value: '', label: trans.__('API') },
            ...[...apis].sort().map(value => ({ value, label: value }))
          ]}
        />
        <HTMLSelect
          aria-label={trans.__('Order')}
          title={trans.__('Order')}
          value={state.sort}
          onChange={event =>
            state.set({ sort: event.currentTarget.value as Sort })
          }
          options={SORTS.map(value => ({ value, label: sorts[value] }))}
        />
      </div>
      {state.schedule && (
        <div className="jp-TaskAPI-Count">
          <span className="jp-TaskAPI-ellipsis" title={state.schedule}>
            {trans.__('Schedule %1', clean(state.schedule, 80))}
          </span>
          <IconButton
            icon={closeIcon}
            label={trans.__('Show the jobs of all schedules')}
            onClick={() => state.set({ schedule: '' })}
          />
        </div>
      )}
      {state.narrowed && total > 0 && (
        <div className="jp-TaskAPI-Count" role="status">
          {searched === undefined
            ? trans.__('%1 of %2 jobs', shown, total)
            : trans.__(
                '%1 of %2 jobs; %3 searched so far',
                shown,
                total,
                searched
              )}
          <Button
            small
            minimal
            onClick={() =>
              state.set({ search: '', api: '', status: '', schedule: '' })
            }
          >
            {trans.__('Clear')}
          </Button>
        </div>
      )}
    </div>
  );
}
