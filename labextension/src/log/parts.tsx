import type { LabIcon } from '@jupyterlab/ui-components';
import {
  Button,
  caretDownIcon,
  caretUpIcon,
  InputGroup,
  ReactWidget
} from '@jupyterlab/ui-components';
import type { ISignal } from '@lumino/signaling';
import React from 'react';

import { hasEnded, statusOf } from '../api/contract';
import { clean, duration, note, shortId, size, took, why } from '../ui/format';
import {
  IconButton,
  StatusIcon,
  statusLabel,
  useSignal
} from '../ui/components';
import type { LogModel } from './model';

/** What the parts around the lines are handed. */
interface IPart {
  model: LogModel;
}

/** Return a part as a widget. */
export function widgetOf(
  Part: React.FunctionComponent<IPart>,
  model: LogModel,
  className: string
): ReactWidget {
  const widget = ReactWidget.create(<Part model={model} />);
  widget.addClass(className);
  return widget;
}

/** A button of the toolbar. */
export interface IToolbarButton {
  icon: LabIcon;
  label: string;
  /** What it does, where its label does not say so. */
  caption?: string;
  /** Whether it is pressed, for one that stays so. */
  pressed?: () => boolean;
  enabled?: () => boolean;
  /** Another label, as things are now. */
  labelNow?: () => string;
  hidden?: () => boolean;
  /** Whether its label is written beside its icon. */
  wordy?: boolean;
  onClick: () => void;
}

/** Return a toolbar's button, which is drawn again with what it is about. */
export function buttonOf(
  model: { changed: ISignal<unknown, unknown> },
  button: IToolbarButton
): ReactWidget {
  const ToolbarButton = (): JSX.Element => {
    useSignal(model.changed);
    const { icon, caption, pressed, enabled, wordy, onClick } = button;
    const label = button.labelNow?.() ?? button.label;
    return button.hidden?.() ? (
      <></>
    ) : (
      <Button
        minimal
        small
        type="button"
        className="jp-TaskAPI-log-button"
        title={caption ?? label}
        aria-label={label}
        aria-pressed={pressed?.()}
        disabled={enabled && !enabled()}
        onClick={onClick}
      >
        <icon.react tag="span" width="16px" height="16px" aria-hidden="true" />
        {wordy && <span>{label}</span>}
      </Button>
    );
  };
  return ReactWidget.create(<ToolbarButton />);
}

/** The job, its status and progress, and the search. */
export function Head({ model }: IPart): JSX.Element {
  useSignal(model.changed);
  const { ref, source, trans } = model;
  const { job } = source;
  const { api, id } = ref;
  const status = job && statusOf(job);
  const said = job ? note(job) : '';
  const words = job && hasEnded(job) ? '' : said;
  const span = job && hasEnded(job) ? duration(took(job)) : '';
  return (
    <>
      <div className="jp-TaskAPI-log-job">
        {status && <StatusIcon status={status} stale={Boolean(job.stale)} />}
        <span className="jp-TaskAPI-log-name" title={`${clean(api)} · ${id}`}>
          {clean(api, 200)}
        </span>
        <span className="jp-TaskAPI-log-id" title={id}>
          {shortId(id)}
        </span>
        {status && (
          <span className="jp-TaskAPI-log-status" role="status">
            {span
              ? trans.__('%1 after %2', statusLabel(status, trans), span)
              : statusLabel(status, trans)}
          </span>
        )}
        {words && (
          <span className="jp-TaskAPI-log-progress" title={words}>
            {words}
          </span>
        )}
      </div>
      <Search model={model} />
    </>
  );
}

function Search({ model }: IPart): JSX.Element {
  const { search, trans } = model;
  const [query, setQuery] = React.useState('');
  const ask = (text: string) => {
    setQuery(text);
    model.query = text;
  };
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.key === 'Enter') {
      model.goToMatch(event.shiftKey ? -1 : 1);
    } else if (event.key === 'Escape') {
      ask('');
    } else {
      return;
    }
    event.preventDefault();
  };
  const none = !search.count;
  return (
    <div
      className="jp-TaskAPI-log-search"
      role="search"
      aria-label={trans.__('Search this log')}
    >
      <InputGroup
        type="text"
        placeholder={trans.__('Search')}
        aria-label={trans.__('Search this log')}
        spellCheck={false}
        rightIcon={query ? undefined : 'ui-components:search'}
        value={query}
        onChange={(event: React.ChangeEvent<HTMLInputElement>) =>
          ask(event.target.value)
        }
        onKeyDown={onKeyDown}
      />
      <span className="jp-TaskAPI-log-count" role="status">
        {search.query && countOf(model)}
      </span>
      <IconButton
        icon={caretUpIcon}
        label={trans.__('Previous match (Shift+Enter)')}
        disabled={none}
        onClick={() => model.goToMatch(-1)}
      />
      <IconButton
        icon={caretDownIcon}
        label={trans.__('Next match (Enter)')}
        disabled={none}
        onClick={() => model.goToMatch(1)}
      />
    </div>
  );
}

function countOf({ search, match, trans }: LogModel): string {
  const count = `${search.count.toLocaleString()}${search.done ? '' : '…'}`;
  if (!search.count) {
    return search.done ? trans.__('No matches') : trans.__('Searching…');
  }
  return match === null
    ? count
    : trans.__('%1 of %2', (match + 1).toLocaleString(), count);
}

/** Why the job failed, what else to know about the log, and how long it is. */
export function Foot({ model }: IPart): JSX.Element {
  useSignal(model.changed);
  const { job, buffer, phase, message, isNote, share } = model.source;
  const { trans } = model;
  const reason = job && hasEnded(job) ? why(job) : '';
  return (
    <>
      {reason && (
        <div className="jp-TaskAPI-log-strip jp-mod-error" role="status">
          <StatusIcon status={statusOf(job!)} />
          <span>{reason}</span>
        </div>
      )}
      {job?.stale && job.reason && (
        <div className="jp-TaskAPI-log-strip jp-mod-warn" role="status">
          <span>{clean(job.reason)}</span>
        </div>
      )}
      {message && buffer.rows > 0 && (
        <div
          className={`jp-TaskAPI-log-strip ${isNote ? 'jp-mod-note' : 'jp-mod-warn'}`}
          role="status"
        >
          <span>{linked(sentence(model))}</span>
        </div>
      )}
      <div className="jp-TaskAPI-log-bar">
        <span className="jp-TaskAPI-log-size">
          {trans._n(
            '%2 line',
            '%2 lines',
            buffer.lines,
            buffer.lines.toLocaleString()
          )}
          {' · '}
          {size(buffer.size)}
        </span>
        {phase === 'reading' && share < 1 && (
          <span>{trans.__('Reading… %1 %', Math.floor(share * 100))}</span>
        )}
      </div>
    </>
  );
}

/** What is shown while there is no output. */
export function Blank({ model }: IPart): JSX.Element | null {
  useSignal(model.changed);
  const { source } = model;
  if (source.buffer.rows > 0) {
    return null;
  }
  const isBad = !!source.message && !source.isNote;
  return (
    <p className={isBad ? 'jp-TaskAPI-Error' : undefined} role="status">
      {linked(sentence(model))}
    </p>
  );
}

function sentence({ source, trans }: LogModel): string {
  const { job, message, phase } = source;
  if (message) {
    return phase === 'unreachable'
      ? trans.__('%1 Trying again…', message)
      : message;
  }
  if (phase === 'reading') {
    return trans.__('Reading the log…');
  }
  if (job && hasEnded(job)) {
    return trans.__('This job wrote no output.');
  }
  return job && statusOf(job) === 'pending'
    ? trans.__('This job has not started yet.')
    : trans.__('No output yet.');
}

/** Return a sentence with its web addresses as links. */
function linked(text: string): React.ReactNode[] {
  return text.split(/(https?:\/\/[^\s"'<>]+)/).map((part, at) =>
    at % 2 ? (
      <a key={at} href={part} target="_blank" rel="noopener noreferrer">
        {part}
      </a>
    ) : (
      part
    )
  );
}
