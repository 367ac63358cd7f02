import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import {
  checkIcon,
  closeIcon,
  copyIcon,
  deleteIcon,
  downloadIcon,
  listIcon,
  refreshIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { IJobRef, TaskAPIClient } from '../client';
import type { FileEntry, Job } from '../contract';
import { hasEnded, LOCAL, statusOf } from '../contract';
import {
  age,
  created,
  duration,
  fraction,
  moment,
  progressWords,
  secondsLeft,
  size,
  took
} from '../format';
import type { TaskAPIModel } from '../model';
import { APIError } from '../request';
import { CommandIDs } from '../tokens';
import {
  IconButton,
  pretty,
  statusLabel,
  StatusIcon,
  useFlash,
  useNow,
  useSignal
} from '../ui';

/** Characters of a config or a result that are drawn. */
const SHOWN = 50_000;

export interface IDetailsProps {
  model: TaskAPIModel;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

/** All there is to say about the job that is selected. */
export function Details({
  model,
  commands,
  trans
}: IDetailsProps): JSX.Element {
  useSignal(model.changed);
  const job = model.selected;
  if (!job) {
    return (
      <p className="jp-TaskAPI-Empty">
        {trans.__('Choose a job to see its config, result and files.')}
      </p>
    );
  }
  return (
    <JobDetails
      key={`${model.environment}/${job.job_id}`}
      job={job}
      model={model}
      commands={commands}
      trans={trans}
    />
  );
}

function JobDetails({
  job,
  model,
  commands,
  trans
}: IDetailsProps & { job: Job }): JSX.Element {
  const ref = model.ref(job);
  const ended = hasEnded(job);
  const status = statusOf(job);
  const now = useNow(!ended);
  const run = (command: string) => () =>
    void commands.execute(command, { ...ref });
  const [copied, copy] = useFlash();
  return (
    <section
      className="jp-TaskAPI-Details"
      aria-label={trans.__('Job %1', job.job_id)}
    >
      <header className="jp-TaskAPI-Details-head">
        <StatusIcon status={status} />
        <strong className="jp-TaskAPI-ellipsis" title={job.api_name}>
          {job.api_name}
        </strong>
        <span role="status" className="jp-TaskAPI-Details-status">
          {statusLabel(status, trans)}
        </span>
        <IconButton
          icon={closeIcon}
          label={trans.__('Close details')}
          onClick={() => model.select(null)}
        />
      </header>
      <div
        className="jp-TaskAPI-Details-actions"
        role="toolbar"
        aria-label={trans.__('Job')}
      >
        <ActionButton
          icon={listIcon}
          label={trans.__('Log')}
          onClick={run(CommandIDs.openLog)}
        />
        {ended ? (
          <>
            <ActionButton
              icon={refreshIcon}
              label={trans.__('Rerun')}
              onClick={run(CommandIDs.rerun)}
            />
            {model.environment === LOCAL && (
              <ActionButton
                icon={deleteIcon}
                label={trans.__('Delete')}
                onClick={run(CommandIDs.deleteJob)}
              />
            )}
          </>
        ) : (
          <ActionButton
            icon={stopIcon}
            label={trans.__('Stop')}
            onClick={run(CommandIDs.stop)}
          />
        )}
      </div>
      {!ended && <ProgressBar job={job} now={now} trans={trans} />}
      {ended && status !== 'succeeded' && job.reason && (
        <p className="jp-TaskAPI-Reason">{job.reason}</p>
      )}
      <dl className="jp-TaskAPI-Facts">
        <dt>{trans.__('id')}</dt>
        <dd>
          <code>{job.job_id}</code>
          <IconButton
            icon={copied === 'id' ? checkIcon : copyIcon}
            label={trans.__('Copy the job’s id')}
            onClick={() => {
              Clipboard.copyToSystem(job.job_id);
              copy('id');
            }}
          />
        </dd>
        {facts(job, now, trans).map(([term, text, title]) => (
          <React.Fragment key={term}>
            <dt>{term}</dt>
            <dd title={title}>{text}</dd>
          </React.Fragment>
        ))}
        {job.notebook && (
          <>
            <dt>{trans.__('notebook')}</dt>
            <dd className="jp-TaskAPI-ellipsis" title={job.notebook}>
              {job.notebook}
            </dd>
          </>
        )}
      </dl>
      <Value
        title={trans.__('Config')}
        value={job.config ?? {}}
        trans={trans}
      />
      {status === 'succeeded' && (
        <Result
          ref_={ref}
          client={model.client}
          connected={model.connected}
          trans={trans}
        />
      )}
      <Files
        ref_={ref}
        ended={ended}
        client={model.client}
        connected={model.connected}
        trans={trans}
      />
    </section>
  );
}

function ActionButton({
  icon,
  label,
  onClick
}: {
  icon: typeof listIcon;
  label: string;
  onClick: () => void;
}): JSX.Element {
  return (
    <button
      type="button"
      className="jp-Button jp-mod-small jp-TaskAPI-Action"
      onClick={onClick}
    >
      <icon.react tag="span" width="16px" height="16px" aria-hidden="true" />
      {label}
    </button>
  );
}

function facts(
  job: Job,
  now: Date,
  trans: TranslationBundle
): [string, string, string?][] {
  const when = (date: Date | null): [string, string?] =>
    date
      ? [
          `${date.toLocaleTimeString()} (${age(date, now)})`,
          date.toLocaleString()
        ]
      : [''];
  const all: [string, string, string?][] = [
    [trans.__('submitted'), ...when(created(job))],
    [trans.__('started'), ...when(moment(job.created_time && job.start_time))],
    [trans.__('ended'), ...when(moment(job.end_time))],
    [trans.__('duration'), duration(took(job, now))],
    [trans.__('timeout'), duration(job.timeout)],
    [trans.__('exit code'), job.exit_code ? String(job.exit_code) : ''],
    [trans.__('version'), job.api_id]
  ];
  return all.filter(([, text]) => text);
}

function ProgressBar({
  job,
  now,
  trans
}: {
  job: Job;
  now: Date;
  trans: TranslationBundle;
}): JSX.Element | null {
  if (!job.progress) {
    return null;
  }
  const done = fraction(job.progress);
  const left = secondsLeft(job, now);
  const words = progressWords(job.progress);
  return (
    <div className="jp-TaskAPI-Progress">
      <div
        className="jp-TaskAPI-Bar"
        role="progressbar"
        aria-label={trans.__('Progress')}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={done === null ? undefined : Math.round(100 * done)}
        aria-valuetext={words}
      >
        <span
          className={done === null ? 'jp-mod-unknown' : ''}
          style={{ width: `${100 * (done ?? 1)}%` }}
        />
      </div>
      <span>
        {words}
        {left !== null && ` · ${trans.__('about %1 left', duration(left))}`}
      </span>
    </div>
  );
}

/** A JSON value that can be folded away and copied. */
function Value({
  title,
  value,
  trans
}: {
  title: string;
  value: unknown;
  trans: TranslationBundle;
}): JSX.Element {
  const [copied, copy] = useFlash();
  const text = React.useMemo(() => pretty(value), [value]);
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{title}</summary>
      <div>
        <IconButton
          icon={copied ? checkIcon : copyIcon}
          label={trans.__('Copy: %1', title)}
          className="jp-TaskAPI-Value-copy"
          onClick={() => {
            Clipboard.copyToSystem(text);
            copy(title);
          }}
        />
        <pre tabIndex={0} aria-label={title}>
          {text.slice(0, SHOWN)}
        </pre>
        {text.length > SHOWN && (
          <p className="jp-TaskAPI-Note">
            {trans.__(
              'The first %1 of %2; copying takes all of it.',
              size(SHOWN),
              size(text.length)
            )}
          </p>
        )}
      </div>
    </details>
  );
}

type Answer<T> = { value: T } | { note: string } | { error: string } | null;

/** Ask for something once, and again when what it depends on changes. */
function useAnswer<T>(
  ask: () => Promise<T>,
  on: React.DependencyList
): Answer<T> {
  const [answer, setAnswer] = React.useState<Answer<T>>(null);
  React.useEffect(() => {
    let current = true;
    ask().then(
      value => current && setAnswer({ value }),
      (error: Error) => {
        if (current) {
          const quiet =
            error instanceof APIError &&
            (error.notKept || error.status === 406);
          setAnswer(quiet ? { note: error.message } : { error: error.message });
        }
      }
    );
    return () => {
      current = false;
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the caller says on what it depends
  }, on);
  return answer;
}

function Result({
  ref_,
  client,
  connected,
  trans
}: {
  ref_: IJobRef;
  client: TaskAPIClient;
  /** Asked again when the server is back. */
  connected: boolean;
  trans: TranslationBundle;
}): JSX.Element {
  const answer = useAnswer(
    () =>
      client.result(ref_).catch((error: Error) => {
        if (
          error instanceof APIError &&
          error.status === 404 &&
          !error.notKept
        ) {
          return null; // a command returns nothing
        }
        throw error;
      }),
    [ref_.environment, ref_.id, connected]
  );
  if (answer === null) {
    return <></>;
  }
  if ('value' in answer) {
    return (
      <Value title={trans.__('Result')} value={answer.value} trans={trans} />
    );
  }
  return <Said title={trans.__('Result')} answer={answer} />;
}

function Said({
  title,
  answer
}: {
  title: string;
  answer: { note: string } | { error: string };
}): JSX.Element {
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{title}</summary>
      <p className={'note' in answer ? 'jp-TaskAPI-Note' : 'jp-TaskAPI-Error'}>
        {'note' in answer ? answer.note : answer.error}
      </p>
    </details>
  );
}

function Files({
  ref_,
  ended,
  client,
  connected,
  trans
}: {
  ref_: IJobRef;
  ended: boolean;
  client: TaskAPIClient;
  /** Asked again when the server is back. */
  connected: boolean;
  trans: TranslationBundle;
}): JSX.Element {
  const answer = useAnswer(
    () => client.files(ref_),
    [ref_.environment, ref_.id, ended, connected]
  );
  const [failed, setFailed] = React.useState('');
  if (answer === null || ('value' in answer && answer.value.length === 0)) {
    return <></>;
  }
  if (!('value' in answer)) {
    return <Said title={trans.__('Files')} answer={answer} />;
  }
  const save = (file: FileEntry) => {
    setFailed('');
    client.file(ref_, file.path).then(
      blob => download(blob, file.path.split('/').pop() ?? file.path),
      (error: Error) => setFailed(error.message)
    );
  };
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{trans.__('Files')}</summary>
      <ul className="jp-TaskAPI-Files" aria-label={trans.__('Files')}>
        {answer.value.slice(0, 200).map(file => (
          <li key={file.path}>
            <span className="jp-TaskAPI-ellipsis" title={file.path}>
              {file.path}
            </span>
            <span className="jp-TaskAPI-faint">{size(file.size)}</span>
            <IconButton
              icon={downloadIcon}
              label={trans.__('Download %1', file.path)}
              onClick={() => save(file)}
            />
          </li>
        ))}
      </ul>
      {answer.value.length > 200 && (
        <p className="jp-TaskAPI-Note">
          {trans.__('The first 200 of %1 files.', answer.value.length)}
        </p>
      )}
      {failed && (
        <p className="jp-TaskAPI-Error" role="alert">
          {failed}
        </p>
      )}
    </details>
  );
}

/** Have the browser save something. */
function download(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
