import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import {
  checkIcon,
  closeIcon,
  copyIcon,
  deleteIcon,
  listIcon,
  refreshIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import React from 'react';

import type { Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import {
  age,
  clock,
  created,
  duration,
  fraction,
  moment,
  progressWords,
  secondsLeft,
  took
} from '../ui/format';
import { CommandIDs } from '../tokens';
import {
  IconButton,
  statusLabel,
  StatusIcon,
  useFlash,
  useNow,
  useSignal
} from '../ui/components';
import { Files, Result, Value } from './outputs';
import type { IPartProps } from './props';

/** The details of the selected job. */
export function Details({ model, commands, trans }: IPartProps): JSX.Element {
  useSignal(model.changed);
  const job = model.selected;
  if (!job) {
    return (
      <p className="jp-TaskAPI-Empty">
        {trans.__('Select a job to see its config, result and files.')}
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
}: IPartProps & { job: Job }): JSX.Element {
  const ref = model.ref(job);
  const ended = hasEnded(job);
  const status = statusOf(job);
  const now = useNow(!ended);
  const run = (command: string) => () =>
    void commands.execute(command, { ...ref });
  const [copied, copy] = useFlash();
  const { job_id: id, config_truncated: unread } = job;
  React.useEffect(() => {
    if (unread) {
      void model.current.refreshJob(id); // lists leave large configs out
    }
  }, [model, id, unread]);
  return (
    <section
      className="jp-TaskAPI-Details"
      aria-label={trans.__('Job %1', job.job_id)}
    >
      <header className="jp-TaskAPI-Details-head">
        <StatusIcon status={status} stale={Boolean(job.stale)} />
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
            {model.keeps(model.environment) && (
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
      {status !== 'succeeded' && job.reason && (
        <p className={`jp-TaskAPI-Reason ${ended ? '' : 'jp-mod-waits'}`}>
          {job.reason}
        </p>
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
      {unread ? (
        <p className="jp-TaskAPI-Empty">{trans.__('Loading the config…')}</p>
      ) : (
        <Value
          title={trans.__('Config')}
          value={job.config ?? {}}
          trans={trans}
        />
      )}
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
    date ? [`${clock(date)} (${age(date, now)})`, date.toLocaleString()] : [''];
  const all: [string, string, string?][] = [
    [trans.__('submitted'), ...when(created(job))],
    [trans.__('started'), ...when(moment(job.created_time && job.start_time))],
    [trans.__('ended'), ...when(moment(job.end_time))],
    [trans.__('duration'), duration(took(job, now))],
    [trans.__('timeout'), duration(job.timeout)],
    [trans.__('run timeout'), duration(job.run_timeout ?? null)],
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
