import type { TranslationBundle } from '@jupyterlab/translation';
import {
  Button,
  HTMLSelect,
  launchIcon,
  refreshIcon
} from '@jupyterlab/ui-components';
import React from 'react';

import type { TaskAPIModel } from '../model/model';
import { signInURL } from '../api/request';
import { CommandIDs } from '../tokens';
import { IconButton, useSignal } from '../ui/components';
import type { IPartProps } from './props';

/** The environment that is shown, and why its jobs can’t be read, if so. */
export function Header({ model, commands, trans }: IPartProps): JSX.Element {
  useSignal(model.changed);
  const { environments, environment } = model;
  return (
    <div className="jp-TaskAPI-Header">
      <div className="jp-TaskAPI-Header-row">
        <HTMLSelect
          aria-label={trans.__('Environment')}
          title={trans.__('Environment')}
          value={environment}
          onChange={event => {
            model.environment = event.currentTarget.value;
          }}
          options={environments.map(({ name, provider }) => ({
            value: name,
            label: name === provider ? name : `${name} (${provider})`
          }))}
        />
        <IconButton
          icon={launchIcon}
          label={trans.__('Open in main area')}
          onClick={() => void commands.execute(CommandIDs.openJobs)}
        />
        <IconButton
          icon={refreshIcon}
          label={trans.__('Refresh')}
          onClick={() => void commands.execute(CommandIDs.refresh)}
        />
      </div>
      <div role="status">
        <Trouble model={model} trans={trans} />
      </div>
    </div>
  );
}

function Trouble({
  model,
  trans
}: {
  model: TaskAPIModel;
  trans: TranslationBundle;
}): JSX.Element {
  const { error } = model.current;
  if (!model.connected) {
    return (
      <p className="jp-TaskAPI-Banner">
        {trans.__(
          'The Jupyter server can’t be reached. Jobs keep running; reconnecting…'
        )}
      </p>
    );
  }
  if (model.signedOut) {
    return (
      <p className="jp-TaskAPI-Banner">
        <span>
          {trans.__('Your session has ended:')}{' '}
          <a
            href={signInURL(model.client.settings)}
            target="_blank"
            rel="noreferrer"
          >
            {trans.__('sign in again')}
          </a>
          {'. '}
          {trans.__('Jobs keep running.')}
        </span>
        <Button small onClick={() => void model.refresh()}>
          {trans.__('Try again')}
        </Button>
      </p>
    );
  }
  if (!error) {
    return <></>;
  }
  return (
    <div className="jp-TaskAPI-Banner">
      <span>{error.message}</span>
      <Button small onClick={() => void model.refresh()}>
        {trans.__('Try again')}
      </Button>
    </div>
  );
}
