import { LOCAL } from '../api/contract';
import type { Config } from './submit';

/** Return a submission as a command line; the token is the reader's to fill in. */
export function curlOf(url: string, config: Config): string {
  const body = JSON.stringify({ config });
  return `curl -H "Authorization: token $TOKEN" ${quoted(url)} -d ${quoted(body)}`;
}

/** Return a submission as a magic. */
export function magicOf(
  environment: string,
  api: string,
  config: Config
): string {
  const line = Object.keys(config).length
    ? `%taskapi submit ${api} --config ${quoted(JSON.stringify(config))}`
    : `%taskapi submit ${api}`;
  return environment === LOCAL ? line : `%taskapi env ${environment}\n${line}`;
}

/** Return a submission in Python. */
export function pythonOf(
  environment: string,
  api: string,
  config: Config,
  options: { [name: string]: number | null | undefined } = {}
): string {
  const given = Object.entries(options)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${value}`);
  const parts = [
    JSON.stringify(api),
    ...(Object.keys(config).length || given.length ? [literal(config)] : []),
    ...given
  ];
  return `import taskapi_jupyter\n\njob = taskapi_jupyter.connect(${JSON.stringify(environment)}).submit(${parts.join(', ')})`;
}

/** Return a JSON value as Python writes it. */
function literal(value: unknown): string {
  if (value === null) {
    return 'None';
  }
  if (typeof value === 'boolean') {
    return value ? 'True' : 'False';
  }
  if (Array.isArray(value)) {
    return `[${value.map(literal).join(', ')}]`;
  }
  if (typeof value === 'object') {
    const entries = Object.entries(value as object).map(
      ([key, one]) => `${JSON.stringify(key)}: ${literal(one)}`
    );
    return `{${entries.join(', ')}}`;
  }
  return JSON.stringify(value);
}

/** Quote for a POSIX shell, whose rules the magics follow. */
function quoted(text: string): string {
  return `'${text.replace(/'/g, `'"'"'`)}'`;
}
