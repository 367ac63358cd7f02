import type { TranslationBundle } from '@jupyterlab/translation';
import { caretDownIcon, caretUpIcon } from '@jupyterlab/ui-components';
import React from 'react';

import type { Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import { CommandIDs } from '../tokens';
import { StatusIcon as AnyStatusIcon, useNow, useView } from '../ui/components';
import { fraction } from '../ui/format';
import { deleteJobs } from './actions';
import type { IColumn } from './columns';
import { aside } from './columns';
import type { IPageProps } from './props';

/** Pixels; every row has this height, so that only those in view are drawn. */
const ROW = 28;

/** Rows that are drawn above and below what is in view, and rows by which that moves. */
const MARGIN = 12;
const STEP = 6;

const StatusIcon = React.memo(AnyStatusIcon);

/** The jobs, a row each, of which those in view are drawn. */
export function Table(props: IPageProps): JSX.Element {
  const { source, state, commands, trans } = props;
  const { environment } = source.scope;
  const jobs = state.shown;
  const { shown: columns } = state.columns;
  const scroller = React.useRef<HTMLDivElement>(null);
  const [view, measure] = useView(scroller, ROW, STEP);
  const onScroll = () => {
    const node = scroller.current!;
    node.classList.toggle('jp-mod-scrolled', node.scrollLeft > 0);
    node.style.setProperty('--jp-taskapi-left', `${node.scrollLeft}px`);
    measure();
  };

  const slots = view.count + 2 * MARGIN;
  const first = Math.max(0, Math.min(view.first - MARGIN, jobs.length - slots));
  const last = Math.min(jobs.length, first + slots);
  const drawn = jobs.slice(first, last);
  const now = useNow(drawn.some(job => !hasEnded(job)));
  const inView = drawn.map(job => job.job_id);
  const wanted = inView.join();
  React.useEffect(() => {
    source.inView = wanted ? wanted.split(',') : [];
    const ids = source.inView.filter(id => source.get(id)?.config_truncated);
    const timer = setTimeout(() => void source.whole(ids), 200); // not of rows that fly by
    return () => clearTimeout(timer);
  }, [source, wanted]);

  // One row at a time is reached by Tab; arrows go from row to row.
  const reachable =
    state.cursor !== null && inView.includes(state.cursor)
      ? state.cursor
      : inView[0];

  const choose = (
    index: number,
    how: { extend?: boolean; toggle?: boolean; only?: boolean }
  ) => {
    const id = jobs[index].job_id;
    if (how.extend) {
      const from = jobs.findIndex(job => job.job_id === state.anchor);
      const begin = from < 0 ? index : from;
      const range = jobs.slice(
        Math.min(begin, index),
        Math.max(begin, index) + 1
      );
      state.set({
        selected: new Set(range.map(job => job.job_id)),
        cursor: id,
        anchor: jobs[begin].job_id
      });
    } else if (how.toggle) {
      const selected = new Set(state.selected);
      if (!selected.delete(id)) {
        selected.add(id);
      }
      state.set({ selected, cursor: id, anchor: id });
    } else if (how.only) {
      state.set({ selected: new Set([id]), cursor: id, anchor: id });
    } else {
      state.set({ cursor: id });
    }
  };

  const reveal = (index: number) => {
    const node = scroller.current!;
    const head = node.querySelector<HTMLElement>('.jp-TaskAPI-Table-head');
    const top = index * ROW;
    const room = node.clientHeight - (head?.offsetHeight ?? ROW);
    if (top < node.scrollTop) {
      node.scrollTop = top;
    } else if (top + ROW > node.scrollTop + room) {
      node.scrollTop = top + ROW - room;
    }
    measure();
    requestAnimationFrame(() => rowOf(node, jobs[index]?.job_id)?.focus());
  };

  const show = (job: Job | undefined) => {
    if (job) {
      void commands.execute(CommandIDs.showJob, {
        environment,
        api: job.api_name,
        id: job.job_id
      });
    }
  };

  const onKeyDown = (event: React.KeyboardEvent) => {
    const focused = idAt(event.target);
    if (focused === null) {
      return; // in the head
    }
    // The node that has the focus may show another job by now.
    const id = state.cursor ?? focused;
    const at = Math.max(
      0,
      jobs.findIndex(job => job.job_id === id)
    );
    const control = event.ctrlKey || event.metaKey;
    const page = Math.max(1, view.count - STEP - 2);
    const moves: { [key: string]: number } = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: jobs.length - 1
    };
    if (event.key in moves) {
      const to = Math.max(0, Math.min(jobs.length - 1, moves[event.key]));
      choose(to, { extend: event.shiftKey, only: !event.shiftKey && !control });
      reveal(to);
    } else if (event.key === ' ') {
      choose(at, { extend: event.shiftKey, toggle: !event.shiftKey });
    } else if (event.key === 'Enter') {
      show(jobs[at]);
    } else if (event.key === 'Escape') {
      state.set({ selected: new Set() });
    } else if (event.key === 'Delete') {
      void deleteJobs(props, state.selected.size ? state.chosen : [jobs[at]]);
    } else if (event.key === 'a' && control) {
      state.set({ selected: new Set(jobs.map(job => job.job_id)) });
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  const onClick = (event: React.MouseEvent) => {
    const id = idAt(event.target);
    const at = id === null ? -1 : jobs.findIndex(job => job.job_id === id);
    if (at >= 0) {
      choose(at, {
        extend: event.shiftKey,
        toggle: event.ctrlKey || event.metaKey,
        only: true
      });
      rowOf(scroller.current!, id)?.focus({ preventScroll: true });
    }
  };

  // What a cell has no room for is said once the pointer is there: rows that fly by need none.
  const onMouseOver = (event: React.MouseEvent) => {
    const cell = (event.target as Element).closest<HTMLElement>(
      '[role=gridcell]'
    );
    const job = source.get(idAt(event.target) ?? '');
    const column = columns[Number(cell?.ariaColIndex ?? 0) - 1];
    if (cell && job && column) {
      cell.title = titleOf(column, job, cell.textContent ?? '');
    }
  };

  const onContextMenu = (event: React.MouseEvent) => {
    const id = idAt(event.target);
    if (id !== null && !state.selected.has(id)) {
      state.set({ selected: new Set([id]), cursor: id, anchor: id });
    }
  };

  const template = columns
    .map(({ id, width }) =>
      id === columns[columns.length - 1].id
        ? `minmax(${width}px, 1fr)`
        : `${width}px`
    )
    .join(' ');
  const width = columns.reduce((sum, one) => sum + one.width, 0);
  return (
    <div
      ref={scroller}
      className={`jp-TaskAPI-Table ${jobs.length ? '' : 'jp-mod-empty'}`}
      role="grid"
      aria-label={trans.__('Jobs')}
      aria-multiselectable="true"
      aria-rowcount={jobs.length + 1}
      aria-colcount={columns.length}
      style={{ '--jp-taskapi-columns': template } as React.CSSProperties}
      onScroll={onScroll}
      onKeyDown={onKeyDown}
      onMouseDown={event => event.shiftKey && event.preventDefault()} // no text is selected
      onClick={onClick}
      onContextMenu={onContextMenu}
      onMouseOver={onMouseOver}
      onDoubleClick={event => show(source.get(idAt(event.target) ?? ''))}
      onFocus={event => {
        const id = idAt(event.target);
        if (id !== null && id !== state.cursor) {
          state.set({ cursor: id });
        }
      }}
    >
      <Head {...props} columns={columns} width={width} />
      {jobs.length > 0 && (
        <div
          role="rowgroup"
          className="jp-TaskAPI-Table-body"
          style={{ height: jobs.length * ROW, minWidth: width }}
        >
          {inSlots(drawn, first, slots).map(({ job, index }, slot) => (
            <Row
              key={slot} // new rows take the nodes of those that went out of sight
              job={job}
              environment={environment}
              columns={columns}
              index={index}
              selected={state.selected.has(job.job_id)}
              cursor={job.job_id === state.cursor}
              reachable={job.job_id === reachable}
              now={hasEnded(job) ? null : now}
              named={source.named}
              trans={trans}
            />
          ))}
        </div>
      )}
    </div>
  );
}

/** Return jobs with their index, each in the slot that it keeps while it is scrolled. */
function inSlots(
  jobs: readonly Job[],
  first: number,
  slots: number
): { job: Job; index: number }[] {
  const found: { job: Job; index: number }[] = [];
  jobs.forEach((job, at) => {
    found[(first + at) % slots] = { job, index: first + at };
  });
  return found.filter(Boolean);
}

function rowOf(node: HTMLElement, id: string | null): HTMLElement | null {
  return node.querySelector(`[data-job-id="${CSS.escape(id ?? '')}"]`);
}

function idAt(target: EventTarget): string | null {
  const row = (target as Element).closest<HTMLElement>('[data-job-id]');
  return row?.dataset.jobId ?? null;
}

/** The names of columns, which sort: one of them is reached by Tab, arrows go from one to the next. */
function Head({
  state,
  columns,
  width,
  trans
}: IPageProps & { columns: readonly IColumn[]; width: number }): JSX.Element {
  const { order } = state;
  const [cursor, setCursor] = React.useState('status');
  const reachable = columns.some(({ id }) => id === cursor) ? cursor : 'status';
  const sort = ({ id, isNumber }: IColumn) => {
    const first = isNumber || ['submitted', 'started', 'ended'].includes(id);
    state.set({
      order:
        order?.column !== id
          ? { column: id, descending: first }
          : order.descending === first
            ? { column: id, descending: !first }
            : null
    });
  };
  const onKeyDown = (event: React.KeyboardEvent) => {
    const steps: { [key: string]: number } = {
      ArrowRight: 1,
      ArrowLeft: -1,
      Home: -Infinity,
      End: Infinity
    };
    if (event.key in steps) {
      const at = columns.findIndex(({ id }) => id === reachable);
      const to = Math.max(
        0,
        Math.min(columns.length - 1, at + steps[event.key])
      );
      const head = event.currentTarget;
      event.preventDefault();
      setCursor(columns[to].id);
      requestAnimationFrame(() =>
        head.querySelectorAll<HTMLElement>('button')[to]?.focus()
      );
    }
  };
  return (
    <div
      role="rowgroup"
      className="jp-TaskAPI-Table-head"
      style={{ minWidth: width }}
    >
      <div role="row" aria-rowindex={1} onKeyDown={onKeyDown}>
        {columns.map((column, index) => {
          const sorting = order?.column === column.id ? order : null;
          const Caret = sorting?.descending ? caretDownIcon : caretUpIcon;
          return (
            <div
              key={column.id}
              role="columnheader"
              aria-colindex={index + 1}
              aria-sort={
                sorting
                  ? sorting.descending
                    ? 'descending'
                    : 'ascending'
                  : 'none'
              }
              className={column.isNumber ? 'jp-mod-number' : ''}
            >
              <button
                type="button"
                tabIndex={column.id === reachable ? 0 : -1}
                title={
                  column.id.includes('.')
                    ? `${column.section}: ${column.label}`
                    : trans.__('Sort by: %1', column.label)
                }
                onFocus={() => setCursor(column.id)}
                onClick={() => sort(column)}
              >
                <span className="jp-TaskAPI-ellipsis">{column.label}</span>
                {sorting && (
                  <Caret.react
                    tag="span"
                    width="16px"
                    height="16px"
                    aria-hidden="true"
                  />
                )}
              </button>
            </div>
          );
        })}
      </div>
    </div>
  );
}

interface IRowProps {
  job: Job;
  environment: string;
  columns: readonly IColumn[];
  index: number;
  selected: boolean;
  cursor: boolean;
  reachable: boolean;
  /** Drawn again with it: names of groups were read. */
  named: number;
  /** Null where time changes nothing. */
  now: Date | null;
  trans: TranslationBundle;
}

const Row = React.memo(function Row(props: IRowProps): JSX.Element {
  const { job, environment, columns, index, selected, reachable } = props;
  const now = props.now ?? new Date();
  const status = statusOf(job);
  const done = status === 'running' ? fraction(job.progress) : null;
  return (
    <div
      role="row"
      className={`jp-TaskAPI-Table-row ${selected ? 'jp-mod-selected' : ''} ${index % 2 ? 'jp-mod-odd' : ''} ${props.cursor ? 'jp-mod-cursor' : ''}`}
      style={{ top: index * ROW }}
      tabIndex={reachable ? 0 : -1}
      aria-rowindex={index + 2}
      aria-selected={selected}
      data-job-id={job.job_id}
      data-api={job.api_name}
      data-environment={environment}
    >
      {columns.map((column, at) => {
        const text = column.text?.(job, now) ?? String(column.value(job) ?? '');
        return (
          <div
            key={column.id}
            role="gridcell"
            aria-colindex={at + 1}
            className={column.isNumber ? 'jp-mod-number' : ''}
          >
            {at === 0 ? (
              <>
                <StatusIcon status={status} stale={Boolean(job.stale)} />
                <span>{text}</span>
                <span className="jp-TaskAPI-faint">{aside(job)}</span>
                {done !== null && (
                  <span className="jp-TaskAPI-Job-bar" aria-hidden="true">
                    <span style={{ width: `${100 * done}%` }} />
                  </span>
                )}
              </>
            ) : (
              text
            )}
          </div>
        );
      })}
    </div>
  );
});

/** What a cell has no room for. */
function titleOf(column: IColumn, job: Job, text: string): string {
  switch (column.id) {
    case 'id':
      return job.job_id;
    case 'status':
      return job.reason ?? '';
    case 'notebook':
      return job.notebook ?? '';
    case 'submitted':
    case 'started':
    case 'ended': {
      const value = column.value(job);
      return value === null ? '' : new Date(String(value)).toLocaleString();
    }
    default:
      return text;
  }
}
