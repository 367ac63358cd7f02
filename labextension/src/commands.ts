import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { ICommandPalette } from '@jupyterlab/apputils';
import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import {
  addIcon,
  clearIcon,
  codeIcon,
  copyIcon,
  deleteIcon,
  editIcon,
  refreshIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import type { IJobRef } from './api/client';
import type { API, Job } from './api/contract';
import { hasEnded, IN_PROGRESS, LOCAL, nameOf, statusOf } from './api/contract';
import { pythonOf } from './sidebar/snippets';
import type { IDraft } from './sidebar/state';
import { ask } from './ui/ask';
import { clean, shortId } from './ui/format';
import type { TaskAPIModel } from './model/model';
import { APIError } from './api/request';
import { taskAPIIcon } from './ui/icon';
import { argsOf, jobOf, placeOf, POINTED, rememberPointed } from './targets';
import { CommandIDs } from './tokens';

/** What commands need of the sidebar. */
export interface ISidebar {
  /** Bring it to the front. */
  show(): void;
  /** Bring it to the front with a job's details. */
  showJob(ref: IJobRef): void;
  /** Bring it to the front with the form to submit a job, and what that begins with; without an API, the user chooses one. */
  openSubmit(environment: string, api?: string, draft?: IDraft): void;
}

/** Milliseconds that a message stays on the screen; Lab keeps it in its list of notifications. */
export const STAYS = 8_000;

/** Act, and show what goes wrong as a message. */
export async function attempt(act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof APIError && error.notKept) {
      Notification.info(message, { autoClose: STAYS });
    } else {
      Notification.error(message, { autoClose: STAYS });
    }
  }
}

/** Requests of commands that await an answer: none is sent twice. */
export class UnderWay {
  constructor(private readonly commands: CommandRegistry) {}

  has(key: string): boolean {
    return this._keys.has(key);
  }

  /** Act as `attempt` does, unless the same is under way. */
  async run(key: string, act: () => Promise<void>): Promise<void> {
    if (this._keys.has(key)) {
      return;
    }
    this._keys.add(key);
    this.commands.notifyCommandChanged();
    await attempt(act);
    this._keys.delete(key);
    this.commands.notifyCommandChanged();
  }

  private readonly _keys = new Set<string>();
}

/** Return what adds a command about one job, which is enabled where `when` holds. */
export function jobCommands(commands: CommandRegistry, model: TaskAPIModel) {
  const busy = new UnderWay(commands);
  const known = ({ environment, id }: IJobRef) =>
    model.jobs(environment).get(id);
  return function addJobCommand(
    id: string,
    label: string,
    caption: string,
    icon: LabIcon,
    when: (ref: IJobRef, job: Job | undefined) => boolean,
    act: (ref: IJobRef) => Promise<void>
  ): void {
    // A job that was stopped may be run again before the stop is answered.
    const key = (ref: IJobRef) => `${id} ${ref.environment} ${ref.id}`;
    const fits = (ref: IJobRef | null): boolean =>
      !!ref && !busy.has(key(ref)) && when(ref, known(ref));
    commands.addCommand(id, {
      label,
      caption,
      icon: inContext(icon),
      describedBy: argsOf('environment', 'api', 'id', POINTED),
      isEnabled: args => fits(jobOf(args, model)),
      // In the palette it stays in sight while no job is selected.
      isVisible: args => {
        const ref = jobOf(args, model);
        return !ref || fits(ref);
      },
      execute: async args => {
        const ref = jobOf(args, model);
        if (ref) {
          await busy.run(key(ref), () => act(ref));
        }
      }
    });
  };
}

/** Add the commands, except those that show a log or are about notebooks. */
export function addCommands(
  app: JupyterFrontEnd,
  model: TaskAPIModel,
  sidebar: ISidebar,
  trans: TranslationBundle,
  palette?: Pick<ICommandPalette, 'addItem'> | null
): void {
  const { commands } = app;
  const category = trans.__('Task API');
  const addJobCommand = jobCommands(commands, model);
  rememberPointed();

  function known(ref: IJobRef): Job | undefined {
    return model.jobs(ref.environment).get(ref.id);
  }

  /** Return the API of a job as it is deployed now. */
  function apiOf({ environment, api }: IJobRef): API | undefined {
    return model.jobs(environment).apis.find(one => nameOf(one) === api);
  }

  /** Return a job with its whole config, which lists leave out where it is large. */
  async function whole(ref: IJobRef): Promise<Job> {
    const seen = known(ref);
    if (!seen || seen.config_truncated) {
      await model.jobs(ref.environment).refreshJob(ref.id);
    }
    const job = known(ref);
    if (!job || job.config_truncated) {
      throw new Error(trans.__('The config of job %1 can’t be read.', ref.id));
    }
    return job;
  }

  function calledOf(ref: IJobRef): string {
    return `${clean(ref.api, 60)} · ${shortId(ref.id)}`;
  }

  function reveal(ref: IJobRef): void {
    model.environment = ref.environment;
    model.select(ref.id);
    sidebar.showJob(ref);
  }

  /** Have the model read a job again. */
  async function reread({ environment, id }: IJobRef): Promise<void> {
    const jobs = model.jobs(environment);
    await (environment === LOCAL ? jobs.refreshJob(id) : jobs.refresh());
  }

  commands.addCommand(CommandIDs.show, {
    label: args => (args.isPalette ? trans.__('Show Jobs') : trans.__('Jobs')),
    caption: trans.__('Show task APIs and jobs'),
    describedBy: argsOf(),
    execute: () => sidebar.show()
  });

  commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh Jobs'),
    caption: trans.__('Reload environments, APIs and jobs'),
    describedBy: argsOf(),
    execute: () => model.refresh()
  });

  commands.addCommand(CommandIDs.submit, {
    label: trans.__('Submit a Job…'),
    caption: trans.__('Show the form to submit a job'),
    icon: inContext(addIcon),
    describedBy: argsOf('environment', 'api', POINTED),
    execute: args => {
      const { environment, api } = placeOf(args, model);
      sidebar.openSubmit(environment, api);
    }
  });

  addJobCommand(
    CommandIDs.showJob,
    trans.__('Show Job'),
    trans.__('Show a job’s details'),
    taskAPIIcon,
    () => true,
    async ref => {
      if (!known(ref)) {
        await reread(ref);
      }
      reveal(ref);
    }
  );

  addJobCommand(
    CommandIDs.stop,
    trans.__('Stop Job'),
    trans.__('Stop a job with all its processes'),
    stopIcon,
    (_, job) => !job || !hasEnded(job),
    async ref => {
      try {
        await model.client.stop(ref);
      } finally {
        await reread(ref);
      }
    }
  );

  addJobCommand(
    CommandIDs.rerun,
    trans.__('Rerun Job'),
    trans.__('Submit the same config again'),
    refreshIcon,
    () => true,
    async ref => {
      const { api_name: api, job_id: id } = await model.client.rerun(ref);
      const again = { environment: ref.environment, api, id };
      await reread(again);
      reveal(again);
    }
  );

  addJobCommand(
    CommandIDs.editRerun,
    trans.__('Edit and Run Again…'),
    trans.__('Edit a copy of a job’s config, then submit it'),
    editIcon,
    ref => !!apiOf(ref),
    async ref => {
      const { config, timeout } = await whole(ref);
      const { environment, api } = ref;
      const draft = { api, config: config ?? {}, timeout: timeout ?? null };
      sidebar.openSubmit(environment, api, draft);
    }
  );

  addJobCommand(
    CommandIDs.copyCode,
    trans.__('Copy Job as Code'),
    trans.__('Copy the Python line that submits a job again'),
    codeIcon,
    () => true,
    async ref => {
      const { config, timeout, run_timeout } = await whole(ref);
      const own = apiOf(ref)?.spec ?? {};
      const options = Object.entries({ timeout, run_timeout }).filter(
        ([name, value]) => value !== own[name]
      );
      Clipboard.copyToSystem(
        pythonOf(
          ref.environment,
          ref.api,
          config ?? {},
          Object.fromEntries(options)
        )
      );
    }
  );

  addJobCommand(
    CommandIDs.deleteJob,
    trans.__('Delete Job…'),
    trans.__('Delete an ended job with its log, result and files'),
    deleteIcon,
    (ref, job) => model.keeps(ref.environment) && (!job || hasEnded(job)),
    async ref => {
      const sure = await ask(
        trans.__('Delete job %1?', calledOf(ref)),
        trans.__('Its log, result and files are deleted, too.'),
        trans.__('Delete')
      );
      if (sure) {
        await model.client.forget(ref);
        model.jobs(ref.environment).drop(ref.id);
      }
    }
  );

  addJobCommand(
    CommandIDs.copyId,
    trans.__('Copy Job ID'),
    trans.__('Copy a job’s id to the clipboard'),
    copyIcon,
    () => true,
    async ref => Clipboard.copyToSystem(ref.id)
  );

  commands.addCommand(CommandIDs.purge, {
    label: args =>
      args.api || args[POINTED]
        ? trans.__('Delete Ended Jobs of This API…')
        : trans.__('Delete All Ended Jobs…'),
    caption: trans.__('Delete ended jobs with their logs, results and files'),
    icon: inContext(clearIcon),
    describedBy: argsOf('environment', 'api', POINTED),
    isEnabled: args => model.keeps(placeOf(args, model).environment),
    isVisible: args => model.keeps(placeOf(args, model).environment),
    execute: async args => {
      const { environment, api } = placeOf(args, model);
      await attempt(async () => {
        const count = await endedOf(environment, api);
        if (count === 0) {
          Notification.info(trans.__('No job has ended.'), {
            autoClose: STAYS
          });
          return;
        }
        const jobs =
          count === null
            ? trans.__('all ended jobs')
            : trans._n('%2 ended job', '%2 ended jobs', count, words(count));
        const sure = await ask(
          api
            ? trans.__('Delete %1 of %2?', jobs, clean(api, 60))
            : trans.__('Delete %1?', jobs),
          trans.__('Their logs, results and files are deleted, too.'),
          trans.__('Delete')
        );
        if (sure) {
          const { message } = await model.client.purge(environment, api);
          Notification.info(sentence(message), { autoClose: STAYS });
          await model.jobs(environment).refresh();
        }
      });
    }
  });

  commands.addCommand(CommandIDs.deleteAPI, {
    label: trans.__('Delete API…'),
    caption: trans.__('Delete an API and stop its jobs'),
    icon: inContext(deleteIcon),
    describedBy: argsOf('environment', 'api', POINTED),
    isEnabled: args => !!placeOf(args, model).api,
    isVisible: args => !!placeOf(args, model).api,
    execute: async args => {
      const { environment, api } = placeOf(args, model);
      const sure =
        api &&
        (await ask(
          trans.__('Delete API %1?', clean(api, 60)),
          trans.__('Its jobs in progress are stopped.'),
          trans.__('Delete')
        ));
      if (sure) {
        await attempt(async () => {
          await model.client.deleteAPI(environment, api);
          await model.jobs(environment).refresh();
        });
      }
    }
  });

  /** Count the jobs that have ended; null where the server doesn't. */
  async function endedOf(
    environment: string,
    api?: string
  ): Promise<number | null> {
    const { counts } = await model.client.jobs(environment, {
      ...{ api, limit: 1, counts: true }
    });
    return counts
      ? Object.entries(counts).reduce(
          (sum, [status, count]) =>
            IN_PROGRESS.includes(statusOf({ status })) ? sum : sum + count,
          0
        )
      : null;
  }

  // Toolbars and menus check again whether a command is enabled.
  let offered = '';
  model.changed.connect(() => {
    const { environment, selected } = model;
    const offer = JSON.stringify([
      environment,
      model.keeps(environment),
      selected?.job_id,
      selected?.status
    ]);
    if (offer !== offered) {
      offered = offer;
      commands.notifyCommandChanged();
    }
  });

  for (const command of [
    CommandIDs.show,
    CommandIDs.refresh,
    CommandIDs.submit,
    CommandIDs.openLog,
    CommandIDs.stop,
    CommandIDs.rerun,
    CommandIDs.editRerun,
    CommandIDs.deleteJob,
    CommandIDs.copyId,
    CommandIDs.copyCode,
    CommandIDs.purge
  ]) {
    const isPalette = command === CommandIDs.show;
    palette?.addItem(
      isPalette
        ? { command, category, args: { isPalette } }
        : { command, category }
    );
  }
}

/** Return a count with separators: `12,345`. */
function words(count: number): string {
  return count.toLocaleString();
}

/** Return a server's message as a sentence of its own. */
function sentence(message: string): string {
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
}

/** Context menus have icons; Lab's palette and its other menus have none. */
function inContext(
  icon: LabIcon
): (args: ReadonlyPartialJSONObject) => LabIcon | undefined {
  return args => (args[POINTED] ? icon : undefined);
}
