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

/** Quote for a POSIX shell, whose rules the magics follow. */
function quoted(text: string): string {
  return `'${text.replace(/'/g, `'"'"'`)}'`;
}
