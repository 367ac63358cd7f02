import type {
  ReadonlyJSONObject,
  ReadonlyPartialJSONObject
} from '@lumino/coreutils';

import type { IJobRef } from './api/client';
import type { TaskAPIModel } from './model/model';

/** An argument of context menu entries: the command is about the row that the menu was opened on. */
export const POINTED = 'pointed';

const REF = {
  environment: { type: 'string', description: 'Name of an environment.' },
  api: { type: 'string', description: 'Name of an API.' },
  id: { type: 'string', description: 'A job’s id.' },
  [POINTED]: {
    type: 'boolean',
    description: 'Take the row that the context menu was opened on.'
  }
};

/** The row that the last context menu was opened on, read at once: rows move while the menu is open. */
let pointed: Partial<IJobRef> = {};

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

/** Remember the row that each context menu is opened on. */
export function rememberPointed(): void {
  document.addEventListener(
    'contextmenu',
    event => {
      pointed = rowAt(event.target);
    },
    true // before the menu is opened, and whatever else listens
  );
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
function rowAt(target: EventTarget | null): Partial<IJobRef> {
  const row =
    target instanceof Element
      ? target.closest<HTMLElement>('[data-job-id], [data-api]')
      : null;
  const { jobId: id, api, environment } = row?.dataset ?? {};
  return { environment, api, id };
}

function textsOf(args: ReadonlyPartialJSONObject): Partial<IJobRef> {
  const text = (value: unknown) =>
    typeof value === 'string' && value ? value : undefined;
  return {
    environment: text(args.environment),
    api: text(args.api),
    id: text(args.id)
  };
}
