import type { TranslationBundle } from '@jupyterlab/translation';
import { listIcon, refreshIcon, stopIcon } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { Job } from '../api/contract';
import { goingOf, hasEnded, statusOf } from '../api/contract';
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
import {
  IconButton,
  StatusIcon,
  statusLabel,
  useNow,
  useView
} from '../ui/components';
import type { Entry } from './entries';
import { GroupRow, MoreRow } from './group';
import type { IListProps } from './props';
import { differing, useWords } from './what';

/** Pixels; every row has this height, so that only those in view are drawn. */
const ROW = 46;

/** Rows that are drawn above and below what is in view. */
const MARGIN = 6;

/** The jobs and groups that are in view, each in a row. */
export function Rows({
  entries,
  ...props
}: IListProps & { entries: readonly Entry[] }): JSX.Element {
  const { model, state, commands, trans } = props;
  const scroller = React.useRef<HTMLDivElement>(null);
  const [view, measure] = useView(scroller, ROW);
  const now = useNow(entries.some(isGoing));
  const [cursor, setCursor] = React.useState<string | null>(null);
  const [pointed, setPointed] = React.useState<string | null>(null);
  const selected = model.selected?.job_id ?? null;

  const first = Math.max(0, Math.min(view.first, entries.length - 1) - MARGIN);
  const last = Math.min(entries.length, view.first + view.count + MARGIN);
  const inView = entries.slice(first, last);
  const known = new Set(inView.map(entry => entry.id));
  const drawn = Array.from({ length: last - first }, (_, at) => first + at);
  if (cursor !== null && !known.has(cursor)) {
    // The row with the focus stays, wherever it went: jobs of an open group that were read may have moved it.
    const at = entries.findIndex(entry => entry.id === cursor);
    if (at >= 0) {
      drawn.splice(at < first ? 0 : drawn.length, 0, at);
      known.add(cursor);
    }
  }
  const jobs = React.useMemo(() => entries.flatMap(jobIn), [entries]);
  const keys = React.useMemo(() => differing(jobs), [jobs]);
  const wordsOf = useWords(model, inView.flatMap(jobIn));
  // One row at a time is reached by Tab; arrows go from row to row.
  const reachable =
    [cursor, selected].find(id => id !== null && known.has(id)) ??
    entries[first]?.id;

  const goTo = (index: number) => {
    const target = Math.max(0, Math.min(entries.length - 1, index));
    const node = scroller.current!;
    const top = target * ROW;
    if (top < node.scrollTop) {
      node.scrollTop = top;
    } else if (top + ROW > node.scrollTop + node.clientHeight) {
      node.scrollTop = top + ROW - node.clientHeight;
    }
    measure();
    const id = CSS.escape(entries[target].id);
    setCursor(entries[target].id);
    requestAnimationFrame(() =>
      node
        .querySelector<HTMLElement>(
          `:is([data-job-id="${id}"], [data-group-id="${id}"]) .jp-TaskAPI-Job-main`
        )
        ?.focus()
    );
  };

  const onToggle = React.useCallback(
    (id: string) => {
      setCursor(id);
      state.toggle(id);
    },
    [state]
  );

  const onSelect = React.useCallback(
    (id: string) => {
      setCursor(id);
      model.select(id);
    },
    [model]
  );

  const onKeyDown = (event: React.KeyboardEvent) => {
    const id = idAt(event.target);
    const at = entries.findIndex(entry => entry.id === id);
    const page = Math.max(1, view.count - 3);
    const moves: { [key: string]: number } = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: entries.length - 1
    };
    const entry = entries[at] as Entry | undefined;
    if (entry?.kind === 'group') {
      if (event.key === 'ArrowRight' && entry.open) {
        moves.ArrowRight = at + 1;
      } else if (event.key === (entry.open ? 'ArrowLeft' : 'ArrowRight')) {
        event.preventDefault();
        state.toggle(entry.id);
      }
    } else if (entry?.kind === 'job' && entry.job.group) {
      const { group } = entry.job;
      moves.ArrowLeft = entries.findIndex(one => one.id === group);
    }
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
        style={{ height: entries.length * ROW }}
      >
        {drawn.map(index => {
          const entry = entries[index];
          const { id, kind } = entry;
          const place = { index, count: entries.length };
          const common = {
            ...place,
            environment: model.environment,
            reachable: id === reachable,
            now,
            commands,
            trans,
            acted: id === pointed || id === reachable
          };
          switch (kind) {
            case 'job':
              return (
                <Row
                  key={id}
                  job={entry.job}
                  words={wordsOf(entry.job, keys.get(entry.job.api_name))}
                  selected={id === selected}
                  onSelect={onSelect}
                  {...common}
                />
              );
            case 'group':
              return (
                <GroupRow
                  key={id}
                  group={entry.group}
                  open={entry.open}
                  keeps={model.keeps(model.environment)}
                  top={place.index * ROW}
                  onToggle={onToggle}
                  {...common}
                />
              );
            default:
              return (
                <MoreRow
                  key={id}
                  jobs={model.current}
                  filter={{ ...state.filter, group: entry.group.id }}
                  top={place.index * ROW}
                  trans={trans}
                  {...place}
                />
              );
          }
        })}
      </ul>
    </div>
  );
}

interface IRowProps {
  job: Job;
  /** What is special about it. */
  words: string;
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

/** Return the job of an entry that is one, as a list. */
function jobIn(entry: Entry): Job[] {
  return entry.kind === 'job' ? [entry.job] : [];
}

/** Whether what a row shows changes with time. */
function isGoing(entry: Entry): boolean {
  return entry.kind === 'job' ? !hasEnded(entry.job) : goingOf(entry.group) > 0;
}

/** Return the id of the job or the group whose row something is in. */
function idAt(target: EventTarget): string | null {
  const row = (target as Element).closest<HTMLElement>(
    '[data-job-id], [data-group-id]'
  );
  return row?.dataset.jobId ?? row?.dataset.groupId ?? null;
}

const Row = React.memo(function Row(props: IRowProps): JSX.Element {
  const { job, words, environment, index, count } = props;
  const { selected, reachable, now } = props;
  const { commands, trans, acted, onSelect } = props;
  const ref = { ...refOf(environment, job) };
  const status = statusOf(job);
  const ended = hasEnded(job);
  const done = status === 'running' ? fraction(job.progress) : null;
  const tabIndex = reachable ? 0 : -1;
  const name = `${job.api_name} ${shortId(job.job_id)}`;
  return (
    <li
      className={`jp-TaskAPI-Job ${selected ? 'jp-mod-selected' : ''} ${job.group ? 'jp-mod-nested' : ''}`}
      style={{ top: index * ROW }}
      aria-posinset={index + 1}
      aria-setsize={count}
      aria-level={job.group ? 2 : undefined}
      data-job-id={job.job_id}
      data-api={job.api_name}
      data-environment={environment}
    >
      <button
        type="button"
        className="jp-TaskAPI-Job-main"
        tabIndex={tabIndex}
        aria-current={selected || undefined}
        title={[`${job.api_name} · ${job.job_id}`, words, job.notebook]
          .filter(Boolean)
          .join('\n')}
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
          <span
            className={`jp-TaskAPI-Job-word ${
              words && status === 'succeeded' ? 'jp-mod-short' : ''
            }`}
          >
            {statusLabel(status, trans)}
          </span>
          {words && (
            <span className="jp-TaskAPI-Job-what jp-TaskAPI-ellipsis">
              {words}
            </span>
          )}
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
