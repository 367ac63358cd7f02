import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import type { API, IParameter } from '../api/contract';
import { parametersOf } from '../api/contract';

/** The parameters of an API's task: how each is written in its signature, and what its documentation says. */
export function Parameters({
  api,
  trans
}: {
  api: API;
  trans: TranslationBundle;
}): JSX.Element | null {
  const parameters = parametersOf(api);
  if (!parameters) {
    return null;
  }
  if (!parameters.length) {
    return <div>{trans.__('The task takes no parameters.')}</div>;
  }
  return (
    <dl
      className="jp-TaskAPI-Parameters"
      aria-label={trans.__('Parameters')}
      tabIndex={0}
    >
      {parameters.map(one => (
        <React.Fragment key={one.name}>
          <dt>
            <code>{signatureOf(one)}</code>
            {one.required && (
              <span className="jp-TaskAPI-Required">
                {trans.__('required')}
              </span>
            )}
          </dt>
          <dd dir="auto">{one.help}</dd>
        </React.Fragment>
      ))}
    </dl>
  );
}

/** Return a parameter as a signature has it; `…` is a default that JSON has no form for. */
export function signatureOf(one: IParameter): string {
  const typed = one.type ? `${one.name}: ${one.type}` : one.name;
  if (one.required || one.name.startsWith('*')) {
    return typed;
  }
  const value = 'default' in one ? JSON.stringify(one.default) : '…';
  return `${typed} = ${value.length > 60 ? `${value.slice(0, 59)}…` : value}`;
}
