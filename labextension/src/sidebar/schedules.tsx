import type { TranslationBundle } from '@jupyterlab/translation';
import {
  addIcon,
  deleteIcon,
  editIcon,
  filterListIcon,
  runIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { Schedule } from '../api/contract';
import { statusOf } from '../api/contract';
import type { TaskAPIModel } from '../model/model';
import {
  isOver,
  misfireWords,
  NAME,
  nextWords,
  wall,
  wallHere,
  whenWords
} from '../schedule/words';
import { CommandIDs } from '../tokens';
import {
  ActionButton,
  IconButton,
  StatusIcon,
  statusLabel,
  useNow,
  useSignal
} from '../ui/components';
import { age, clean, moment } from '../ui/format';
import type { IListProps } from './props';

/** Milliseconds before the next firing in which each second counts. */
const SOON = 120_000;

/** The schedules of an environment: when each fires, how its last run ended, and what can be done with it. */
export function ScheduleList(props: IListProps): JSX.Element {
  const { model, state, commands, trans } = props;
  useSignal(model.changed);
  useSignal(state.changed);
  const { all, hint, kept } = model.currentSchedules;
  const soon = all.some(one => {
    const next = moment(one.next_time)?.getTime() ?? Infinity;
    return next - Date.now() < SOON;
  });
  const now = useNow(soon);
  const { environment } = model;
  return (
    <div className="jp-TaskAPI-Schedules">
      {kept && all.length === 0 && (
        <p className="jp-TaskAPI-Empty">
          {trans.__(
            'A schedule submits jobs of an API again and again, at the times that you choose.'
          )}
        </p>
      )}
      <ul aria-label={trans.__('Schedules')}>
        {all.map(one => (
          <ScheduleRow
            key={`${environment}/${one.name}`}
            schedule={one}
            status={lastStatus(one, model)}
            environment={environment}
            isShown={state.schedule === one.name}
            now={now}
            commands={commands}
            trans={trans}
          />
        ))}
      </ul>
      <div className="jp-TaskAPI-Schedules-foot">
        <ActionButton
          icon={addIcon}
          label={trans.__('New schedule')}
          onClick={() =>
            void commands.execute(CommandIDs.schedule, { environment })
          }
        />
        {all.length > 0 && hint && (
          <p className="jp-TaskAPI-Note">
            {clean(hint, 400)
              .split('`')
              .map((part, at) =>
                at % 2 ? <code key={at}>{part}</code> : part
              )}
          </p>
        )}
      </div>
    </div>
  );
}

/** Return the status of a schedule's last job, as last seen. */
function lastStatus(one: Schedule, model: TaskAPIModel): string | null {
  const job = one.last_job_id && model.current.get(one.last_job_id);
  const status = job ? job.status : one.last_status;
  return status && statusOf({ status });
}

interface IRowProps {
  schedule: Schedule;
  /** Of its last job. */
  status: string | null;
  environment: string;
  /** Whether the list of jobs shows those of this schedule alone. */
  isShown: boolean;
  now: Date;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

const ScheduleRow = React.memo(function ScheduleRow(
  props: IRowProps
): JSX.Element {
  const { schedule, environment, isShown, now, commands, trans } = props;
  const { api, active, next_time: next, paused } = schedule;
  const name = clean(schedule.name, NAME);
  const run = (command: string) => () =>
    void commands.execute(command, { environment, schedule: schedule.name });
  const misfire = misfireWords(schedule, trans);
  const missed = moment(schedule.misfire_time);
  return (
    <li
      className={`jp-TaskAPI-Schedule ${active ? '' : 'jp-mod-paused'}`}
      aria-label={name}
      data-schedule={schedule.name}
      data-environment={environment}
    >
      <div className="jp-TaskAPI-Schedule-head">
        <strong className="jp-TaskAPI-ellipsis" title={schedule.name}>
          {name}
        </strong>
        {api !== schedule.name && (
          <span className="jp-TaskAPI-ellipsis jp-TaskAPI-faint" title={api}>
            {clean(api, NAME)}
          </span>
        )}
        <span
          className="jp-TaskAPI-Schedule-next"
          title={next ? wallHere(next) : undefined}
        >
          {nextWords(schedule, now, trans)}
        </span>
        {!isOver(schedule, now) && (
          <button
            type="button"
            role="switch"
            className="jp-TaskAPI-Switch"
            aria-checked={active}
            aria-label={trans.__('Active')}
            title={active ? trans.__('Pause') : trans.__('Resume')}
            onClick={run(CommandIDs.pauseSchedule)}
          />
        )}
      </div>
      <div className="jp-TaskAPI-Schedule-when" title={schedule.schedule}>
        {whenWords(schedule)}
      </div>
      {paused && (
        <p className="jp-TaskAPI-Schedule-said">{clean(paused, 400)}</p>
      )}
      {misfire && (
        <p
          className="jp-TaskAPI-Schedule-said"
          title={missed ? wall(missed.toISOString()) : undefined}
        >
          {misfire}
          {missed && ` (${age(missed, now)})`}
        </p>
      )}
      <div className="jp-TaskAPI-Schedule-foot">
        <LastRun {...props} />
        <span className="jp-TaskAPI-Schedule-actions">
          <IconButton
            icon={runIcon}
            label={trans.__('Run %1 now', name)}
            onClick={run(CommandIDs.runSchedule)}
          />
          <IconButton
            icon={filterListIcon}
            label={trans.__('Show jobs of %1', name)}
            aria-pressed={isShown}
            onClick={run(CommandIDs.scheduleJobs)}
          />
          <IconButton
            icon={editIcon}
            label={trans.__('Edit %1…', name)}
            onClick={run(CommandIDs.editSchedule)}
          />
          <IconButton
            icon={deleteIcon}
            label={trans.__('Delete %1…', name)}
            onClick={run(CommandIDs.deleteSchedule)}
          />
        </span>
      </div>
    </li>
  );
});

/** How the last job of a schedule is, or ended: a link to it. */
function LastRun({
  schedule,
  status,
  environment,
  now,
  commands,
  trans
}: IRowProps): JSX.Element {
  const { last_job_id: id, last_time: last, api } = schedule;
  if (!id || !status) {
    return (
      <span className="jp-TaskAPI-faint">
        {last ? trans.__('Its last job was deleted') : trans.__('No run yet')}
      </span>
    );
  }
  return (
    <button
      type="button"
      className="jp-TaskAPI-Schedule-last"
      title={[trans.__('Show job %1', id), age(moment(last), now)]
        .filter(Boolean)
        .join('\n')}
      onClick={() =>
        void commands.execute(CommandIDs.showJob, { environment, api, id })
      }
    >
      <StatusIcon status={status} />
      <span className="jp-TaskAPI-ellipsis">
        {statusLabel(status, trans)}
        <span className="jp-TaskAPI-faint"> {age(moment(last), now)}</span>
      </span>
    </button>
  );
}
