import { Clipboard } from '@jupyterlab/apputils';
import type { IEditorServices } from '@jupyterlab/codeeditor';
import {
  caretDownIcon,
  caretRightIcon,
  checkIcon,
  codeIcon,
  copyIcon,
  deleteIcon,
  notebookIcon,
  terminalIcon
} from '@jupyterlab/ui-components';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import React from 'react';

import type { API } from '../api/contract';
import { nameOf, statusOf } from '../api/contract';
import { CommandIDs } from '../tokens';
import {
  ActionButton,
  IconButton,
  useFlash,
  useSignal
} from '../ui/components';
import { scheduleIcon } from '../ui/icon';
import { goingWords } from '../ui/words';
import type { IListProps } from './props';
import { Runs } from './python';
import { curlOf, magicOf } from './snippets';
import type { IDraft } from './state';
import type { Config } from './submit';
import { defaultsOf, SubmitForm } from './submit';

export interface IAPIListProps extends IListProps {
  editors: IEditorServices;
}

/** The APIs of an environment; one at a time is open, with its endpoint and a form to submit a job. */
export function APIList(props: IAPIListProps): JSX.Element {
  const { model, state, commands, trans } = props;
  useSignal(model.changed);
  useSignal(state.changed);
  const jobs = model.current;
  if (jobs.apis.length === 0) {
    return jobs.loaded ? (
      <div className="jp-TaskAPI-Empty">
        {trans.__('No task API is deployed here.')}
        {commands.hasCommand(CommandIDs.example) && (
          <ActionButton
            icon={notebookIcon}
            label={trans.__('Insert an example')}
            caption={trans.__('Make a notebook that deploys and submits')}
            onClick={() => void commands.execute(CommandIDs.example)}
          />
        )}
        {trans.__('Deploy one from a notebook:')}
        <code>{'%load_ext taskapi_jupyter'}</code>
        <code>{'%%taskapi deploy NAME'}</code>
        {trans.__(
          'If that raises ModuleNotFoundError, the notebook’s kernel runs in another environment than this server. Install the package there, then restart the kernel:'
        )}
        <code>{'%pip install taskapi-jupyter'}</code>
      </div>
    ) : (
      <></>
    );
  }
  const counts = new Map<string, number>();
  const keyOf = (name: string, status: string) => `${status} ${name}`;
  for (const job of jobs.inProgress) {
    const key = keyOf(job.api_name, statusOf(job));
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const { api_name: name, counts: each } of jobs.groups) {
    for (const status of ['running', 'pending']) {
      const key = keyOf(name, status);
      counts.set(key, (counts.get(key) ?? 0) + (each[status] ?? 0));
    }
  }
  const countOf = (api: API, status: 'running' | 'pending') =>
    (jobs.partial && api.job_counts?.[status]) ||
    (counts.get(keyOf(nameOf(api), status)) ?? 0);
  return (
    <ul className="jp-TaskAPI-APIs" aria-label={trans.__('Task APIs')}>
      {jobs.apis.map(api => (
        <APIItem
          {...props}
          key={`${model.environment}/${nameOf(api)}`}
          api={api}
          running={countOf(api, 'running')}
          pending={countOf(api, 'pending')}
        />
      ))}
    </ul>
  );
}

function APIItem(
  props: IAPIListProps & { api: API; running: number; pending: number }
): JSX.Element {
  const { api, model, state, running, pending, trans } = props;
  const name = nameOf(api);
  const open = state.openAPI === name;
  const Caret = open ? caretDownIcon : caretRightIcon;
  return (
    <li
      className={`jp-TaskAPI-API ${open ? 'jp-mod-open' : ''}`}
      data-api={name}
      data-environment={model.environment}
    >
      <button
        type="button"
        className="jp-TaskAPI-API-head"
        aria-expanded={open}
        title={name}
        onClick={() => state.set({ openAPI: open ? null : name, draft: null })}
      >
        <Caret.react tag="span" width="16px" height="16px" aria-hidden="true" />
        <span className="jp-TaskAPI-ellipsis">{name}</span>
        {running + pending > 0 && (
          <span className="jp-TaskAPI-Badge">
            {goingWords(running, pending, trans)}
          </span>
        )}
      </button>
      {open && <OpenAPI {...props} />}
    </li>
  );
}

const drafts = new WeakMap<IDraft, number>();
let drafted = 0;

/** Tell one draft from the next: each has a form of its own. */
function numberOf(draft: IDraft | null): number {
  if (draft && !drafts.has(draft)) {
    drafts.set(draft, ++drafted);
  }
  return draft ? drafts.get(draft)! : 0;
}

function OpenAPI(
  props: IAPIListProps & { api: API; running: number; pending: number }
): JSX.Element {
  const { api, model, state, commands, editors, trans } = props;
  const name = nameOf(api);
  const { environment } = model;
  const draft = state.draft?.api === name ? state.draft : null;
  const [config, setConfig] = React.useState<Config | null>(defaultsOf(api));
  const [copied, flash] = useFlash();
  // Through this server, whatever the environment: it is what a browser and curl can reach.
  const url = model.client.endpoint(environment, name);
  const copy = (what: string, text: string) => {
    Clipboard.copyToSystem(text);
    flash(what);
  };
  const icon = (what: string, other: typeof copyIcon) =>
    copied === what ? checkIcon : other;
  return (
    <div className="jp-TaskAPI-API-body">
      <div className="jp-TaskAPI-Endpoint">
        <code className="jp-TaskAPI-ellipsis" title={url}>
          {new URL(url).pathname}
        </code>
        <IconButton
          icon={icon('url', copyIcon)}
          label={trans.__('Copy the URL')}
          onClick={() => copy('url', url)}
        />
        <IconButton
          icon={icon('curl', terminalIcon)}
          label={trans.__('Copy as curl')}
          onClick={() => copy('curl', curlOf(url, config ?? {}))}
        />
        <IconButton
          icon={icon('magic', codeIcon)}
          label={trans.__('Copy as magic')}
          onClick={() =>
            copy('magic', magicOf(environment, name, config ?? {}))
          }
        />
        {model.currentSchedules.kept && (
          <IconButton
            icon={scheduleIcon}
            label={trans.__('Schedule %1…', name)}
            onClick={() =>
              void commands.execute(CommandIDs.schedule, {
                ...{ environment, api: name },
                config: (config ?? {}) as ReadonlyPartialJSONObject
              })
            }
          />
        )}
        <IconButton
          icon={deleteIcon}
          label={trans.__('Delete %1', name)}
          onClick={() =>
            void commands.execute(CommandIDs.deleteAPI, {
              environment,
              api: name
            })
          }
        />
      </div>
      <span className="jp-TaskAPI-Hidden" role="status">
        {copied ? trans.__('Copied') : ''}
      </span>
      <Runs {...props} />
      <SubmitForm
        // Another version has other defaults.
        key={`${api.metadata?.id ?? name} ${numberOf(draft)}`}
        api={api}
        draft={draft}
        model={model}
        editors={editors}
        trans={trans}
        onConfig={setConfig}
      />
    </div>
  );
}
