import type { TranslationBundle } from '@jupyterlab/translation';
import { listIcon, refreshIcon, stopIcon } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import {
  age,
  created,
  duration,
  fraction,
  note,
  shortId,
  took
} from '../ui/format';
import { refOf } from '../model/model';
import { CommandIDs } from '../tokens';
import { IconButton, StatusIcon, statusLabel, useNow } from '../ui/components';
import type { IListProps } from './props';

/** Pixels; every row has this height, so that only those in view are drawn. */
const ROW = 46;

/** Rows that are drawn above and below what is in view. */
const MARGIN = 6;

/** The jobs that are in view, each in a row. */
export function Rows({
  jobs,
  ...props
}: IListProps & { jobs: readonly Job[] }): JSX.Element {
  const { model, commands, trans } = props;
  const scroller = React.useRef<HTMLDivElement>(null);
  const [view, setView] = React.useState({ first: 0, count: 20 });
  const now = useNow(jobs.some(job => !hasEnded(job)));
  const [cursor, setCursor] = React.useState<string | null>(null);
  const [pointed, setPointed] = React.useState<string | null>(null);
  const selected = model.selected?.job_id ?? null;

  const measure = React.useCallback(() => {
    if (!scroller.current) {
      return; // the list was removed while it was scrolled
    }
    const { scrollTop, clientHeight } = scroller.current;
    const first = Math.floor(scrollTop / ROW);
    const count = Math.ceil((clientHeight || 600) / ROW) + 1;
    setView(last =>
      last.first === first && last.count === count ? last : { first, count }
    );
  }, []);
  React.useEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(scroller.current!);
    measure();
    return () => observer.disconnect();
  }, [measure]);

  const first = Math.max(0, Math.min(view.first, jobs.length - 1) - MARGIN);
  const last = Math.min(jobs.length, view.first + view.count + MARGIN);
  const known = new Set(jobs.slice(first, last).map(job => job.job_id));
  // One row at a time is reached by Tab; arrows go from row to row.
  const reachable =
    [cursor, selected].find(id => id !== null && known.has(id)) ??
    jobs[first]?.job_id;

  const goTo = (index: number) => {
    const target = Math.max(0, Math.min(jobs.length - 1, index));
    const node = scroller.current!;
    const top = target * ROW;
    if (top < node.scrollTop) {
      node.scrollTop = top;
    } else if (top + ROW > node.scrollTop + node.clientHeight) {
      node.scrollTop = top + ROW - node.clientHeight;
    }
    measure();
    setCursor(jobs[target].job_id);
    requestAnimationFrame(() =>
      node
        .querySelector<HTMLElement>(
          `[data-job-id="${CSS.escape(jobs[target].job_id)}"] .jp-TaskAPI-Job-main`
        )
        ?.focus()
    );
  };

  const onSelect = React.useCallback(
    (id: string) => {
      setCursor(id);
      model.select(id);
    },
    [model]
  );

  const onKeyDown = (event: React.KeyboardEvent) => {
    const id = idAt(event.target);
    const at = jobs.findIndex(job => job.job_id === id);
    const page = Math.max(1, view.count - 3);
    const moves: { [key: string]: number } = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: jobs.length - 1
    };
    if (at >= 0 && event.key in moves) {
      event.preventDefault();
      goTo(moves[event.key]);
    }
  };

  return (
    <div
      className="jp-TaskAPI-Scroller"
      ref={scroller}
      onScroll={measure}
      onMouseOver={event => setPointed(idAt(event.target))}
      onMouseLeave={() => setPointed(null)}
      onFocus={event => setCursor(idAt(event.target))}
      onKeyDown={onKeyDown}
    >
      <ul
        className="jp-TaskAPI-JobRows"
        aria-label={trans.__('Jobs')}
        style={{ height: jobs.length * ROW }}
      >
        {jobs.slice(first, last).map((job, index) => (
          <Row
            key={job.job_id}
            job={job}
            environment={model.environment}
            index={first + index}
            count={jobs.length}
            selected={job.job_id === selected}
            reachable={job.job_id === reachable}
            now={now}
            commands={commands}
            trans={trans}
            acted={job.job_id === pointed || job.job_id === reachable}
            onSelect={onSelect}
          />
        ))}
      </ul>
    </div>
  );
}

interface IRowProps {
  job: Job;
  environment: string;
  index: number;
  count: number;
  selected: boolean;
  reachable: boolean;
  now: Date;
  commands: CommandRegistry;
  trans: TranslationBundle;
  /** Whether its buttons are there: icons for rows that fly by would cost frames. */
  acted: boolean;
  onSelect: (id: string) => void;
}

/** Return the id of the job whose row something is in. */
function idAt(target: EventTarget): string | null {
  const row = (target as Element).closest<HTMLElement>('[data-job-id]');
  return row?.dataset.jobId ?? null;
}

const Row = React.memo(function Row(props: IRowProps): JSX.Element {
  const { job, environment, index, count, selected, reachable, now } = props;
  const { commands, trans, acted, onSelect } = props;
  const ref = { ...refOf(environment, job) };
  const status = statusOf(job);
  const ended = hasEnded(job);
  const done = status === 'running' ? fraction(job.progress) : null;
  const tabIndex = reachable ? 0 : -1;
  const name = `${job.api_name} ${shortId(job.job_id)}`;
  return (
    <li
      className={`jp-TaskAPI-Job ${selected ? 'jp-mod-selected' : ''}`}
      style={{ top: index * ROW }}
      aria-posinset={index + 1}
      aria-setsize={count}
      data-job-id={job.job_id}
      data-api={job.api_name}
      data-environment={environment}
    >
      <button
        type="button"
        className="jp-TaskAPI-Job-main"
        tabIndex={tabIndex}
        aria-current={selected || undefined}
        title={`${job.api_name} · ${job.job_id}${job.notebook ? `\n${job.notebook}` : ''}`}
        onClick={() => onSelect(job.job_id)}
      >
        <StatusIcon status={status} stale={Boolean(job.stale)} />
        <span className="jp-TaskAPI-Job-name">
          <span className="jp-TaskAPI-ellipsis">{job.api_name}</span>
          <span className="jp-TaskAPI-faint">{shortId(job.job_id)}</span>
        </span>
        <span className="jp-TaskAPI-Job-notebook jp-TaskAPI-ellipsis jp-TaskAPI-faint">
          {job.notebook?.split('/').pop()}
        </span>
        <span className="jp-TaskAPI-Job-age jp-TaskAPI-faint">
          {age(created(job), now)}
        </span>
        <span className="jp-TaskAPI-Job-state">
          <span className="jp-TaskAPI-Job-word">
            {statusLabel(status, trans)}
          </span>
          <span className="jp-TaskAPI-ellipsis jp-TaskAPI-faint">
            {note(job)}
          </span>
        </span>
        <span className="jp-TaskAPI-Job-took jp-TaskAPI-faint">
          {duration(took(job, now))}
        </span>
      </button>
      {acted && (
        <span className="jp-TaskAPI-Job-actions">
          {ended ? (
            <IconButton
              icon={refreshIcon}
              label={trans.__('Run %1 again', name)}
              tabIndex={tabIndex}
              onClick={() => void commands.execute(CommandIDs.rerun, ref)}
            />
          ) : (
            <IconButton
              icon={stopIcon}
              label={trans.__('Stop %1', name)}
              tabIndex={tabIndex}
              onClick={() => void commands.execute(CommandIDs.stop, ref)}
            />
          )}
          <IconButton
            icon={listIcon}
            label={trans.__('Show the log of %1', name)}
            tabIndex={tabIndex}
            onClick={() => void commands.execute(CommandIDs.openLog, ref)}
          />
        </span>
      )}
      {done !== null && (
        <span className="jp-TaskAPI-Job-bar" aria-hidden="true">
          <span style={{ width: `${100 * done}%` }} />
        </span>
      )}
    </li>
  );
});
