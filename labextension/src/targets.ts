import type {
  ReadonlyJSONObject,
  ReadonlyPartialJSONObject
} from '@lumino/coreutils';

import type { IGroupRef, IJobRef, IScheduleRef } from './api/client';
import type { TaskAPIModel } from './model/model';

/** An argument of context menu entries: the command is about the row that the menu was opened on. */
export const POINTED = 'pointed';

const REF = {
  environment: { type: 'string', description: 'Name of an environment.' },
  api: { type: 'string', description: 'Name of an API.' },
  id: { type: 'string', description: 'A job’s id.' },
  group: { type: 'string', description: 'A group’s id.' },
  schedule: { type: 'string', description: 'A schedule’s name.' },
  config: { type: 'object', description: 'What a job is called with.' },
  path: { type: 'string', description: 'A notebook’s path.' },
  pinned: {
    type: 'boolean',
    description: 'Whether it keeps its tab when another is shown.'
  },
  selected: {
    type: 'boolean',
    description: 'Take the notebook that is selected in the file browser.'
  },
  [POINTED]: {
    type: 'boolean',
    description: 'Take the row that the context menu was opened on.'
  }
};

/** What a row says about itself. */
type IRow = IJobRef & IGroupRef & IScheduleRef;

/** The row that the last context menu was opened on, read at once: rows move while the menu is open. */
let pointed: Partial<IRow> = {};

/**
 * Return the job that a command is about: that of its arguments, of the row under the pointer (where its arguments
 * say so) or with the focus, else the one that is selected.
 */
export function jobOf(
  args: ReadonlyPartialJSONObject,
  model: TaskAPIModel
): IJobRef | null {
  let found = args[POINTED] ? pointed : textsOf(args);
  if (!found.id && !args[POINTED]) {
    found = rowAt(document.activeElement);
  }
  const { id, environment = model.environment } = found;
  if (id) {
    const api = found.api ?? model.jobs(environment).get(id)?.api_name ?? '';
    return { environment, api, id };
  }
  return !args[POINTED] && model.selected ? model.ref(model.selected) : null;
}

/** Return the group that a command is about: that of its arguments, or of the row, as for a job. */
export function groupAt(
  args: ReadonlyPartialJSONObject,
  model: TaskAPIModel
): IGroupRef | null {
  const given = args[POINTED] ? pointed : textsOf(args);
  const found =
    given.group || args[POINTED] ? given : rowAt(document.activeElement);
  const { group, environment = model.environment } = found;
  return group ? { environment, group } : null;
}

/** Return the schedule that a command is about: that of its arguments, or of the row, as for a job. */
export function scheduleAt(
  args: ReadonlyPartialJSONObject,
  model: TaskAPIModel
): IScheduleRef | null {
  const given = args[POINTED] ? pointed : textsOf(args);
  const found =
    given.schedule || args[POINTED] ? given : rowAt(document.activeElement);
  const { schedule, environment = model.environment } = found;
  return schedule ? { environment, schedule } : null;
}

/** Remember the row that each context menu is opened on, or that a key is pressed on: menus show its shortcuts. */
export function rememberPointed(): void {
  const remember = (event: Event) => {
    const row = rowAt(event.target);
    const { id, group, api, schedule } = row;
    if (event.type === 'contextmenu' || id || group || api || schedule) {
      pointed = row; // a key in the menu itself changes nothing
    }
  };
  // Before the menu is opened or the command runs, and whatever else listens.
  document.addEventListener('contextmenu', remember, true);
  document.addEventListener('keydown', remember, true);
}

/** Return the environment and the API that a command is about. */
export function placeOf(
  args: ReadonlyPartialJSONObject,
  model: TaskAPIModel
): {
  environment: string;
  api: string | undefined;
} {
  const { environment = model.environment, api } = args[POINTED]
    ? pointed
    : textsOf(args);
  return { environment, api };
}

/** Describe the arguments of a command. */
export function argsOf(...names: (keyof typeof REF)[]): {
  args: ReadonlyJSONObject;
} {
  const properties = Object.fromEntries(names.map(name => [name, REF[name]]));
  return { args: { type: 'object', properties } };
}

/** Return what a row of ours says about itself. */
function rowAt(target: EventTarget | null): Partial<IRow> {
  const row =
    target instanceof Element
      ? target.closest<HTMLElement>(
          '[data-job-id], [data-api], [data-group-id], [data-schedule]'
        )
      : null;
  const { jobId: id, groupId: group, ...others } = row?.dataset ?? {};
  const { api, environment, schedule } = others;
  return { environment, api, id, group, schedule };
}

function textsOf(args: ReadonlyPartialJSONObject): Partial<IRow> {
  const text = (value: unknown) =>
    typeof value === 'string' && value ? value : undefined;
  return {
    environment: text(args.environment),
    api: text(args.api),
    id: text(args.id),
    group: text(args.group),
    schedule: text(args.schedule)
  };
}
