import {
  addIcon,
  caretDownIcon,
  copyIcon,
  deleteIcon,
  HTMLSelect,
  InputGroup,
  LabIcon,
  refreshIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import React from 'react';

import { nameOf, STATUSES, statusOf } from '../api/contract';
import { CommandIDs } from '../tokens';
import { IconButton, statusLabel } from '../ui/components';
import {
  copyRows,
  deleteJobs,
  rerunFailed,
  rerunJobs,
  stopGroup,
  stopJobs
} from './actions';
import type { IColumn } from './columns';
import type { IPageProps } from './props';

const compareIcon = new LabIcon({
  name: 'taskapi-jupyter:compare',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
    <g class="jp-icon3 jp-icon-selectable" fill="#616161">
      <path d="M3 4h8v16H3zm2 2v12h4V6zM13 4h8v16h-8zm2 2v12h4V6z"/>
    </g>
  </svg>`
});

const columnsIcon = new LabIcon({
  name: 'taskapi-jupyter:columns',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
    <path class="jp-icon3 jp-icon-selectable" fill="#616161" d="M3 4h18v16H3zm2 5v9h3.5V9zm5.5 0v9h3V9zM15.500 9v9H19V9z"/>
  </svg>`
});

/** What is above the table: which jobs are shown, and what can be done with those that are chosen. */
export function Bar(props: IPageProps): JSX.Element {
  const { source, state, trans } = props;
  const { shown } = state;
  return (
    <div className="jp-TaskAPI-Page-bar">
      <div
        className="jp-TaskAPI-Page-filters"
        role="search"
        aria-label={trans.__('Jobs')}
      >
        <Filters {...props} />
        <span className="jp-TaskAPI-Page-count" role="status">
          {source.loading && !source.loaded
            ? trans.__('Loading…')
            : shown.length === source.size
              ? trans._n('%1 job', '%1 jobs', source.size)
              : trans.__('%1 of %2 jobs', shown.length, source.size)}
          {source.more && ` · ${trans.__('older ones not loaded')}`}
        </span>
        {state.narrowed && (
          <Action
            label={trans.__('Clear')}
            onClick={() => state.set({ search: '', status: '', api: '' })}
          />
        )}
      </div>
      <Actions {...props} />
    </div>
  );
}

function Filters({ model, source, state, trans }: IPageProps): JSX.Element {
  const apis = new Set(model.jobs(source.scope.environment).apis.map(nameOf));
  for (const job of source.jobs) {
    apis.add(job.api_name);
  }
  if (state.api) {
    apis.add(state.api);
  }
  const [search, setSearch] = React.useState(state.search);
  React.useEffect(() => setSearch(state.search), [state.search]);
  return (
    <>
      <InputGroup
        type="search"
        className="jp-TaskAPI-Page-search"
        placeholder={trans.__('Search, for example lr=0.1')}
        aria-label={trans.__(
          'Search jobs by id, API, status, notebook, reason or config, for example lr=0.1'
        )}
        value={search}
        rightIcon="ui-components:search"
        onChange={event => {
          setSearch(event.currentTarget.value);
          state.set({ search: event.currentTarget.value });
        }}
      />
      <HTMLSelect
        aria-label={trans.__('Status')}
        value={state.status}
        onChange={event => state.set({ status: event.currentTarget.value })}
        options={[
          { value: '', label: trans.__('Any status') },
          ...STATUSES.map(value => ({
            value,
            label: statusLabel(value, trans)
          }))
        ]}
      />
      {!source.scope.group && (
        <HTMLSelect
          aria-label={trans.__('API')}
          value={state.api}
          onChange={event => state.set({ api: event.currentTarget.value })}
          options={[
            { value: '', label: trans.__('Any API') },
            ...[...apis].sort().map(value => ({ value, label: value }))
          ]}
        />
      )}
    </>
  );
}

function Actions(props: IPageProps): JSX.Element {
  const { commands, model, source, state, trans } = props;
  const { chosen, chosenEnded: ended, comparing } = state;
  const { environment, group } = source.scope;
  const counts = source.group?.counts ?? {};
  const going = (counts.running ?? 0) + (counts.pending ?? 0);
  const failed = Object.entries(counts)
    .filter(
      ([status]) =>
        !['pending', 'running', 'succeeded'].includes(statusOf({ status }))
    )
    .reduce((sum, [, count]) => sum + count, 0);
  return (
    <div
      className="jp-TaskAPI-Page-actions"
      role="group"
      aria-label={trans.__('Actions')}
    >
      <Action
        icon={stopIcon}
        label={trans.__('Stop')}
        title={trans.__('Stop the chosen jobs')}
        disabled={ended === chosen.length}
        onClick={() => void stopJobs(props, chosen)}
      />
      <Action
        icon={refreshIcon}
        label={trans.__('Rerun')}
        title={trans.__('Submit the configs of the chosen jobs again')}
        disabled={!chosen.length}
        onClick={() => void rerunJobs(props, chosen)}
      />
      {model.keeps(environment) && (
        <Action
          icon={deleteIcon}
          label={trans.__('Delete')}
          title={trans.__('Delete the chosen jobs that have ended')}
          disabled={!ended}
          onClick={() => void deleteJobs(props, chosen)}
        />
      )}
      <Action
        icon={compareIcon}
        label={trans.__('Compare')}
        title={trans.__('Compare the chosen jobs, and draw charts')}
        pressed={comparing}
        onClick={() => state.set({ comparing: !comparing })}
      />
      <span className="jp-TaskAPI-Page-chosen" role="status">
        {chosen.length > 0 && trans.__('%1 chosen', chosen.length)}
      </span>
      <span className="jp-TaskAPI-Page-space" />
      {group !== undefined && (
        <>
          <Action
            icon={refreshIcon}
            wordy
            label={trans.__('Rerun failed')}
            title={trans.__('Submit those that failed again, as a new group')}
            disabled={!failed}
            onClick={() =>
              void rerunFailed(props).then(made => {
                if (made) {
                  const args = { environment, group: made };
                  void commands.execute(CommandIDs.openJobs, args);
                }
              })
            }
          />
          <Action
            icon={stopIcon}
            wordy
            label={trans.__('Stop group')}
            disabled={!going}
            onClick={() => void stopGroup(props)}
          />
        </>
      )}
      {source.more && (
        <Action
          icon={addIcon}
          wordy
          label={trans.__('Load older')}
          disabled={source.loading}
          onClick={() => void source.older()}
        />
      )}
      <Action
        icon={copyIcon}
        label={trans.__('Copy as CSV')}
        title={trans.__('Copy the chosen rows, or all that are shown')}
        disabled={!state.shown.length}
        onClick={() => copyRows(props)}
      />
      <ColumnChooser {...props} />
      <IconButton
        icon={refreshIcon}
        label={trans.__('Refresh')}
        onClick={() => void source.load()}
      />
    </div>
  );
}

/** A button with a word and, where there is one, an icon. */
export function Action({
  icon,
  label,
  pressed,
  wordy = false,
  ...others
}: {
  icon?: LabIcon;
  label: string;
  pressed?: boolean;
  /** Whether the word stays where there is little room. */
  wordy?: boolean;
} & React.ButtonHTMLAttributes<HTMLButtonElement>): JSX.Element {
  return (
    <button
      type="button"
      className={`jp-TaskAPI-Page-button ${pressed ? 'jp-mod-pressed' : ''} ${wordy ? 'jp-mod-wordy' : ''}`}
      aria-pressed={pressed}
      title={label}
      {...others}
    >
      {icon && (
        <icon.react tag="span" width="16px" height="16px" aria-hidden="true" />
      )}
      <span>{label}</span>
    </button>
  );
}

/** Which columns are shown: a list of checkboxes below a button. */
function ColumnChooser({ state, trans }: IPageProps): JSX.Element {
  const [open, setOpen] = React.useState(false);
  const [, draw] = React.useReducer((count: number) => count + 1, 0); // at once, as a checkbox is
  const root = React.useRef<HTMLDivElement>(null);
  const { all, shown } = state.columns;
  const sections = new Map<string, IColumn[]>();
  for (const column of all.filter(({ id }) => id !== 'status')) {
    const section = sections.get(column.section) ?? [];
    sections.set(column.section, [...section, column]);
  }
  React.useEffect(() => {
    if (open) {
      const leave = (event: MouseEvent) => {
        if (!root.current?.contains(event.target as Node)) {
          setOpen(false);
        }
      };
      document.addEventListener('mousedown', leave, true);
      root.current?.querySelector<HTMLElement>('input')?.focus();
      return () => document.removeEventListener('mousedown', leave, true);
    }
    return undefined;
  }, [open]);
  return (
    <div
      ref={root}
      className="jp-TaskAPI-Page-columns"
      onKeyDown={event => {
        if (event.key === 'Escape' && open) {
          setOpen(false);
          root.current?.querySelector<HTMLElement>('button')?.focus();
          event.stopPropagation();
        }
      }}
      onBlur={event => {
        if (
          event.relatedTarget &&
          !event.currentTarget.contains(event.relatedTarget)
        ) {
          setOpen(false);
        }
      }}
    >
      <Action
        icon={columnsIcon}
        label={trans.__('Columns')}
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      />
      {open && (
        <div
          className="jp-TaskAPI-Page-popup"
          role="group"
          aria-label={trans.__('Columns')}
        >
          {[...sections].map(([section, columns]) => (
            <fieldset key={section}>
              <legend>{section}</legend>
              {columns.map(({ id, label }) => (
                <label key={id} title={label}>
                  <input
                    type="checkbox"
                    checked={shown.some(one => one.id === id)}
                    onChange={event => {
                      state.choice.set({
                        ...state.choice.get(),
                        [id]: event.currentTarget.checked
                      });
                      draw();
                    }}
                  />
                  <span className="jp-TaskAPI-ellipsis">{label}</span>
                </label>
              ))}
            </fieldset>
          ))}
          <Action
            icon={caretDownIcon}
            wordy
            label={trans.__('As at first')}
            onClick={() => state.choice.set({})}
          />
        </div>
      )}
    </div>
  );
}
