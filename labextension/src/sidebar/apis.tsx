import { Clipboard } from '@jupyterlab/apputils';
import type { IEditorServices } from '@jupyterlab/codeeditor';
import {
  caretDownIcon,
  caretRightIcon,
  checkIcon,
  codeIcon,
  copyIcon,
  deleteIcon,
  terminalIcon
} from '@jupyterlab/ui-components';
import React from 'react';

import type { API } from '../api/contract';
import { nameOf, statusOf } from '../api/contract';
import { CommandIDs } from '../tokens';
import { IconButton, useFlash, useSignal } from '../ui/components';
import type { IListProps } from './props';
import { curlOf, magicOf } from './snippets';
import type { Config } from './submit';
import { defaultsOf, SubmitForm } from './submit';

export interface IAPIListProps extends IListProps {
  editors: IEditorServices;
}

/** The APIs of an environment; one at a time is open, with its endpoint and a form to submit a job. */
export function APIList(props: IAPIListProps): JSX.Element {
  const { model, state, trans } = props;
  useSignal(model.changed);
  useSignal(state.changed);
  const jobs = model.current;
  if (jobs.apis.length === 0) {
    return jobs.loaded ? (
      <p className="jp-TaskAPI-Empty">
        {trans.__('No task API is deployed here. Deploy one from a notebook:')}
        <code>{'%load_ext taskapi_jupyter'}</code>
        <code>{'%%taskapi deploy NAME'}</code>
        {trans.__(
          'If that raises ModuleNotFoundError, the notebook’s kernel runs in another environment than this server. Install the package there, then restart the kernel:'
        )}
        <code>{'%pip install taskapi-jupyter'}</code>
      </p>
    ) : (
      <></>
    );
  }
  const counts = new Map<string, number>();
  for (const job of jobs.inProgress) {
    if (statusOf(job) === 'running') {
      counts.set(job.api_name, (counts.get(job.api_name) ?? 0) + 1);
    }
  }
  return (
    <ul className="jp-TaskAPI-APIs" aria-label={trans.__('Task APIs')}>
      {jobs.apis.map(api => (
        <APIItem
          {...props}
          key={`${model.environment}/${nameOf(api)}`}
          api={api}
          running={
            (jobs.partial && api.job_counts?.running) ||
            (counts.get(nameOf(api)) ?? 0)
          }
        />
      ))}
    </ul>
  );
}

function APIItem(
  props: IAPIListProps & { api: API; running: number }
): JSX.Element {
  const { api, model, state, running, trans } = props;
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
        onClick={() => state.set({ openAPI: open ? null : name })}
      >
        <Caret.react tag="span" width="16px" height="16px" aria-hidden="true" />
        <span className="jp-TaskAPI-ellipsis">{name}</span>
        {running > 0 && (
          <span className="jp-TaskAPI-Badge">
            {trans.__('%1 running', running)}
          </span>
        )}
      </button>
      {open && <OpenAPI {...props} />}
    </li>
  );
}

function OpenAPI(props: IAPIListProps & { api: API }): JSX.Element {
  const { api, model, commands, editors, trans } = props;
  const name = nameOf(api);
  const { environment } = model;
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
      <SubmitForm
        // Another version has other defaults.
        key={api.metadata?.id ?? name}
        api={api}
        model={model}
        editors={editors}
        trans={trans}
        onConfig={setConfig}
      />
    </div>
  );
}
