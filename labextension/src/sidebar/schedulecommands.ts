import type { ICommandPalette } from '@jupyterlab/apputils';
import { Notification } from '@jupyterlab/apputils';
import type { IEditorServices } from '@jupyterlab/codeeditor';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import {
  deleteIcon,
  editIcon,
  filterListIcon,
  pauseIcon,
  runIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';

import type { IScheduleRef } from '../api/client';
import type { Schedule } from '../api/contract';
import { attempt, STAYS, UnderWay } from '../commands';
import type { TaskAPIModel } from '../model/model';
import type { IScheduleOptions } from '../schedule/dialog';
import { askToSchedule } from '../schedule/dialog';
import { NAME } from '../schedule/words';
import { argsOf, placeOf, POINTED, scheduleAt } from '../targets';
import { CommandIDs } from '../tokens';
import { ask } from '../ui/ask';
import { clean, shortId } from '../ui/format';
import { scheduleIcon } from '../ui/icon';
import type { Config } from './submit';

/** What these commands need of the sidebar. */
export interface IScheduleViews {
  /** Bring it to the front with a schedule. */
  showSchedule(ref: IScheduleRef): void;
  /** Bring it to the front with the jobs of a schedule alone; again: with all. */
  showJobsOf(ref: IScheduleRef): void;
}

/** Add the commands about schedules. */
export function addScheduleCommands(
  commands: CommandRegistry,
  model: TaskAPIModel,
  editors: IEditorServices,
  views: IScheduleViews,
  trans: TranslationBundle,
  palette?: Pick<ICommandPalette, 'addItem'> | null
): void {
  const busy = new UnderWay(commands);

  const known = ({ environment, schedule }: IScheduleRef) =>
    model.schedules(environment).get(schedule);
  const called = ({ schedule }: IScheduleRef) => clean(schedule, NAME);

  /** Whether an environment keeps schedules, as far as is known. */
  function mayKeep(environment: string): boolean {
    const { kept } = model.schedules(environment);
    return model.keeps(environment) && kept !== false;
  }

  /** Return what the form needs to ask for a schedule. */
  function options(
    environment: string
  ): Omit<IScheduleOptions, 'save' | 'schedule'> {
    return {
      apis: model.jobs(environment).apis,
      editors,
      trans,
      ask: query => model.client.previewSchedule(environment, query)
    };
  }

  commands.addCommand(CommandIDs.schedule, {
    label: args =>
      args.isPalette ? trans.__('New Schedule…') : trans.__('Schedule…'),
    caption: trans.__('Have jobs of an API run again and again'),
    icon: args => (args[POINTED] ? scheduleIcon : undefined),
    describedBy: argsOf('environment', 'api', 'config', POINTED),
    isEnabled: args => mayKeep(placeOf(args, model).environment),
    isVisible: args => mayKeep(placeOf(args, model).environment),
    execute: args =>
      attempt(async () => {
        const { environment, api } = placeOf(args, model);
        const config = args.config as Config | undefined;
        if (!model.jobs(environment).loaded) {
          await model.jobs(environment).refresh(); // for its APIs
        }
        await askToSchedule({
          ...options(environment),
          ...{ api, config },
          save: async request => {
            const { name: schedule } = await model.client.createSchedule(
              environment,
              request
            );
            await model.schedules(environment).refresh();
            views.showSchedule({ environment, schedule });
          }
        });
      })
  });

  function add(
    id: string,
    label: string | ((schedule: Schedule | undefined) => string),
    caption: string,
    icon: LabIcon,
    act: (ref: IScheduleRef) => Promise<void>
  ): void {
    const key = (ref: IScheduleRef) =>
      JSON.stringify([id, ref.environment, ref.schedule]);
    commands.addCommand(id, {
      label: args => {
        const ref = scheduleAt(args, model);
        return typeof label === 'string'
          ? label
          : label(ref ? known(ref) : undefined);
      },
      caption,
      icon: args => (args[POINTED] ? icon : undefined),
      describedBy: argsOf('environment', 'schedule', POINTED),
      isEnabled: args => {
        const ref = scheduleAt(args, model);
        return !!ref && !busy.has(key(ref));
      },
      isVisible: args => !!scheduleAt(args, model),
      execute: async args => {
        const ref = scheduleAt(args, model);
        if (ref) {
          await busy.run(key(ref), () => act(ref));
        }
      }
    });
  }

  add(
    CommandIDs.showSchedule,
    trans.__('Show Schedule'),
    trans.__('Show a schedule in the sidebar'),
    scheduleIcon,
    async ref => {
      await model.schedules(ref.environment).refresh();
      views.showSchedule(ref);
    }
  );

  add(
    CommandIDs.scheduleJobs,
    trans.__('Show Jobs'),
    trans.__('List the jobs of a schedule alone'),
    filterListIcon,
    async ref => views.showJobsOf(ref)
  );

  add(
    CommandIDs.runSchedule,
    trans.__('Run Now'),
    trans.__('Submit a job of a schedule now'),
    runIcon,
    async ref => {
      const { job_id: id } = await model.client.runSchedule(ref);
      Notification.info(
        trans.__('Submitted %1 of schedule %2.', shortId(id), called(ref)),
        { autoClose: STAYS }
      );
      await Promise.all([
        model.jobs(ref.environment).refreshJob(id),
        model.schedules(ref.environment).refresh()
      ]);
    }
  );

  add(
    CommandIDs.pauseSchedule,
    schedule =>
      schedule && !schedule.active ? trans.__('Resume') : trans.__('Pause'),
    trans.__('Pause a schedule, or have it go on'),
    pauseIcon,
    async ref => {
      const active = !known(ref)?.active;
      try {
        await model.client.updateSchedule(ref, { active });
      } finally {
        await model.schedules(ref.environment).refresh();
      }
    }
  );

  add(
    CommandIDs.editSchedule,
    trans.__('Edit…'),
    trans.__('Change when a schedule fires, and its jobs'),
    editIcon,
    async ref => {
      const { environment } = ref;
      await model.schedules(environment).refresh();
      const schedule = known(ref);
      if (!schedule) {
        throw new Error(trans.__('There is no schedule %1.', called(ref)));
      }
      await askToSchedule({
        ...options(environment),
        schedule,
        save: async changes => {
          if (Object.keys(changes).length) {
            await model.client.updateSchedule(ref, changes);
            await model.schedules(environment).refresh();
          }
        }
      });
    }
  );

  add(
    CommandIDs.deleteSchedule,
    trans.__('Delete…'),
    trans.__('Delete a schedule; its jobs stay'),
    deleteIcon,
    async ref => {
      const sure = await ask(
        trans.__('Delete schedule %1?', called(ref)),
        trans.__('The jobs that it has submitted stay.'),
        trans.__('Delete')
      );
      if (sure) {
        try {
          await model.client.deleteSchedule(ref);
        } finally {
          await model.schedules(ref.environment).refresh();
        }
      }
    }
  );

  palette?.addItem({
    command: CommandIDs.schedule,
    args: { isPalette: true },
    category: trans.__('Task API')
  });
}
