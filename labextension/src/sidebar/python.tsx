/** What runs a task: its Python, and the environment that it has its packages from. */
import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import type { TaskAPIClient } from '../api/client';
import type { API, BuiltEnvironment, Interpreter, Job } from '../api/contract';
import { definitionOf, nameOf } from '../api/contract';
import { contentsPath, serverRoot } from '../notebook/paths';
import { CommandIDs } from '../tokens';
import { useNow } from '../ui/components';
import { clean, environmentWords } from '../ui/format';
import type { IPartProps } from './props';

/** Characters of a version or a path, and of all requirements. */
const NAME = 200;
const REQUIREMENTS = 400;

/** A fact in a list of facts: the Python, the path of which is its title, and its environment. */
export function PythonFact({
  python,
  api,
  since,
  absent,
  environment,
  client,
  now,
  trans
}: {
  python: Interpreter;
  /** The version whose task it runs. */
  api: Pick<API, 'spec'>;
  /** When its environment was asked for: one that was built before comes from the cache. */
  since: Date | null;
  /** What is said of an environment that is not there. */
  absent: string;
  environment: string;
  client: TaskAPIClient;
  now: Date;
  trans: TranslationBundle;
}): JSX.Element {
  const built = useBuilt(python, environment, client);
  const count = built && built.packages.length;
  const words = environmentWords(python, count, since, absent, now);
  const needs = python.key ? (built?.requirements ?? requirementsOf(api)) : [];
  return (
    <>
      <dt>{trans.__('Python')}</dt>
      <dd>
        <span title={clean(python.path)} dir="auto">
          {clean(python.version ?? python.path, NAME)}
        </span>
        {words && <div className="jp-TaskAPI-faint">{words}</div>}
        {needs.length > 0 && (
          <div>
            <code dir="auto" title={clean(needs.join('  '))}>
              {clean(needs.join(', '), REQUIREMENTS)}
            </code>
          </div>
        )}
      </dd>
    </>
  );
}

/** What runs an API's jobs: its Python and packages, of a notebook its kernel. */
export function Runs({
  api,
  model,
  running,
  pending,
  commands,
  trans
}: IPartProps & {
  api: API;
  running: number;
  pending: number;
}): JSX.Element | null {
  const { client, environment, connected } = model;
  const name = nameOf(api);
  const { id, last_updated: updated } = api.metadata ?? {};
  const [python, setPython] = React.useState<Interpreter | undefined>();
  const now = useNow(false);
  const isKept = model.keeps(environment);
  React.useEffect(() => {
    let current = true;
    if (isKept && connected) {
      client.api(environment, name).then(
        one => current && setPython(one.python),
        () => undefined // of an API that can't be read, the list says why
      );
    }
    return () => {
      current = false;
    };
    // A job that starts or ends may have built its environment.
  }, [
    client,
    environment,
    connected,
    isKept,
    name,
    id,
    updated,
    running,
    pending
  ]);
  const { kernel } = definitionOf(api);
  const path = notebookAt(api, model.current.all);
  const canRun = path !== null && commands.hasCommand(CommandIDs.runNotebook);
  if (!python && typeof kernel !== 'string' && !canRun) {
    return null;
  }
  return (
    <dl className="jp-TaskAPI-Facts">
      {python && (
        <PythonFact
          python={python}
          api={api}
          since={updated ? new Date(updated * 1000) : null}
          absent={trans.__('built when its next job starts')}
          environment={environment}
          client={client}
          now={now}
          trans={trans}
        />
      )}
      {typeof kernel === 'string' && (
        <>
          <dt>{trans.__('kernel')}</dt>
          <dd dir="auto">{clean(kernel, 80)}</dd>
        </>
      )}
      {canRun && (
        <dd className="jp-TaskAPI-Runs-other">
          <button
            type="button"
            className="jp-TaskAPI-Link"
            onClick={() =>
              void commands.execute(CommandIDs.runNotebook, { path })
            }
          >
            {trans.__('Run with another kernel…')}
          </button>
        </dd>
      )}
    </dl>
  );
}

/** Return the requirements of a version, as they were given. */
export function requirementsOf(api: Pick<API, 'spec'>): string[] {
  const { requirements } = definitionOf(api);
  const all = Array.isArray(requirements) ? requirements : [requirements];
  return all.filter(
    (one): one is string => typeof one === 'string' && one !== 'none'
  );
}

/** Return the environment that was built for a Python; null where there is none, and before it was read. */
function useBuilt(
  { key, built }: Interpreter,
  environment: string,
  client: TaskAPIClient
): BuiltEnvironment | null {
  const [found, setFound] = React.useState<BuiltEnvironment | null>(null);
  React.useEffect(() => {
    let current = true;
    setFound(null);
    if (key && built) {
      client.packages(environment).then(
        ({ environments }) =>
          current &&
          setFound(environments.find(one => one.key === key) ?? null),
        () => undefined // what is known without is shown
      );
    }
    return () => {
      current = false;
    };
  }, [client, environment, key, built]);
  return found;
}

/** Return where the file browser has the notebook that an API runs: the one that a job of it was submitted from. */
export function notebookAt(api: API, jobs: readonly Job[]): string | null {
  const { path } = definitionOf(api);
  if (typeof path !== 'string' || !path.endsWith('.ipynb')) {
    return null;
  }
  const file = `/${path.slice(path.lastIndexOf('/') + 1)}`;
  const job = jobs.find(
    one => one.api_name === nameOf(api) && one.notebook?.endsWith(file)
  );
  return job?.notebook ? contentsPath(serverRoot(), job.notebook) : null;
}
