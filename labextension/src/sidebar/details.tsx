import { Clipboard } from '@jupyterlab/apputils';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import {
  checkIcon,
  closeIcon,
  codeIcon,
  copyIcon,
  deleteIcon,
  editIcon,
  listIcon,
  notebookIcon,
  refreshIcon,
  saveIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { IJobRef } from '../api/client';
import type { Job } from '../api/contract';
import { hasEnded, keepsKernel, statusOf } from '../api/contract';
import {
  absentWords,
  afterWords,
  age,
  created,
  duration,
  fraction,
  local,
  moment,
  progressWords,
  secondsLeft,
  stamp,
  took
} from '../ui/format';
import { CommandIDs } from '../tokens';
import {
  ActionButton,
  IconButton,
  statusLabel,
  StatusIcon,
  useFlash,
  useNow,
  useSignal
} from '../ui/components';
import type { TaskAPIModel } from '../model/model';
import { KeptKernel } from '../notebook/kept';
import { contentsPath, serverRoot } from '../notebook/paths';
import type { IVersion } from './config';
import { ConfigValue } from './config';
import { Files, Result } from './outputs';
import type { IPartProps } from './props';
import { PythonFact } from './python';
import { Series } from './series';
import { GroupName } from './what';

export interface IDetailsProps extends IPartProps {
  rendermime: IRenderMimeRegistry;
}

/** The details of the selected job. */
export function Details(props: IDetailsProps): JSX.Element {
  const { model, trans } = props;
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
      {...props}
      key={`${model.environment}/${job.job_id}`}
      job={job}
    />
  );
}

function JobDetails({
  job,
  model,
  commands,
  rendermime,
  trans
}: IDetailsProps & { job: Job }): JSX.Element {
  const ref = model.ref(job);
  const ended = hasEnded(job);
  const status = statusOf(job);
  const now = useNow(!ended);
  const run = (command: string) => () =>
    void commands.execute(command, { ...ref });
  const [copied, copy] = useFlash();
  const notebook = model.current.notebookOf(job);
  const { job_id: id, config_truncated: unread } = job;
  const version = useVersion(job, ref, model);
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
        {notebook !== null && (
          <>
            <ActionButton
              icon={notebookIcon}
              label={trans.__('Open notebook')}
              onClick={run(CommandIDs.openNotebook)}
            />
            <ActionButton
              icon={saveIcon}
              label={trans.__('Save a copy')}
              onClick={run(CommandIDs.saveNotebook)}
            />
          </>
        )}
        {keepsKernel(job) && (
          <KeptKernel ref_={ref} commands={commands} trans={trans} />
        )}
        {ended ? (
          <>
            <ActionButton
              icon={refreshIcon}
              label={trans.__('Rerun')}
              caption={trans.__('Submit the same config again')}
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
        {commands.isEnabled(CommandIDs.editRerun, { ...ref }) && (
          <ActionButton
            icon={editIcon}
            label={trans.__('Edit and rerun')}
            caption={trans.__('Edit a copy of the config, then submit it')}
            onClick={run(CommandIDs.editRerun)}
          />
        )}
        <ActionButton
          icon={copied === 'code' ? checkIcon : codeIcon}
          label={trans.__('Copy as code')}
          caption={trans.__('Copy the Python line that submits this job again')}
          onClick={() => {
            run(CommandIDs.copyCode)();
            copy('code');
          }}
        />
        <span className="jp-TaskAPI-Hidden" role="status">
          {copied ? trans.__('Copied') : ''}
        </span>
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
        {job.group && (
          <>
            <dt>{trans.__('group')}</dt>
            <dd>
              <GroupName job={job} jobs={model.current} />
            </dd>
          </>
        )}
        {facts(job, now, trans).map(([term, text, title]) => (
          <React.Fragment key={term}>
            <dt>{term}</dt>
            <dd title={title}>{text}</dd>
          </React.Fragment>
        ))}
        {version?.python && (
          <PythonFact
            python={version.python}
            api={version}
            since={created(job)}
            absent={absentWords(job)}
            environment={ref.environment}
            client={model.client}
            now={now}
            trans={trans}
          />
        )}
        {job.notebook && (
          <>
            <dt>{trans.__('notebook')}</dt>
            <dd className="jp-TaskAPI-ellipsis" title={job.notebook}>
              <NotebookLink path={job.notebook} commands={commands} />
            </dd>
          </>
        )}
      </dl>
      {unread ? (
        <p className="jp-TaskAPI-Empty">{trans.__('Loading the config…')}</p>
      ) : (
        <ConfigValue config={job.config ?? {}} api={version} trans={trans} />
      )}
      <Series
        job={job}
        ref_={ref}
        client={model.client}
        connected={model.connected}
        trans={trans}
      />
      {status === 'succeeded' && (
        <Result
          ref_={ref}
          client={model.client}
          connected={model.connected}
          rendermime={rendermime}
          trans={trans}
        />
      )}
      <Files
        ref_={ref}
        ended={ended}
        commands={commands}
        client={model.client}
        connected={model.connected}
        trans={trans}
      />
    </section>
  );
}

/**
 * Return the version that a job runs, as its API had it then, and the Python that runs it; null before it was read.
 *
 * It is read again when the job's environment may have been built.
 */
function useVersion(
  job: Job,
  ref: IJobRef,
  model: TaskAPIModel
): (IVersion & Pick<Job, 'python'>) | null {
  const [version, setVersion] = React.useState<
    (IVersion & Pick<Job, 'python'>) | null
  >(null);
  const { client, connected } = model;
  const python = version?.python;
  const stage =
    python?.key && !python.built
      ? `${statusOf(job)} ${job.progress?.message}`
      : '';
  React.useEffect(() => {
    let current = true;
    client.job(ref).then(
      ({ api_spec: spec, job_status: { python } }) =>
        current && setVersion({ spec, python }),
      () => undefined // of a job that can't be read, the list says why
    );
    return () => {
      current = false;
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- a reference is another object each time
  }, [client, connected, ref.environment, ref.id, stage]);
  return version;
}

/** The notebook that a job was submitted from: a link, where the file browser has it. */
function NotebookLink({
  path,
  commands
}: {
  path: string;
  commands: CommandRegistry;
}): JSX.Element {
  const there = contentsPath(serverRoot(), path);
  return there === null ? (
    <>{path}</>
  ) : (
    <button
      type="button"
      className="jp-TaskAPI-Link"
      onClick={() => void commands.execute('docmanager:open', { path: there })}
    >
      {path}
    </button>
  );
}

function facts(
  job: Job,
  now: Date,
  trans: TranslationBundle
): [string, string, string?][] {
  const when = (date: Date | null): [string, string?] =>
    date ? [`${local(date, now)} (${age(date, now)})`, stamp(date)] : [''];
  const all: [string, string, string?][] = [
    [trans.__('submitted'), ...when(created(job))],
    [trans.__('started'), ...when(moment(job.created_time && job.start_time))],
    [trans.__('ended'), ...when(moment(job.end_time))],
    [trans.__('duration'), duration(took(job, now))],
    [trans.__('after'), afterWords(job)],
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
  const words = progressWords(job.progress, job.cell);
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
