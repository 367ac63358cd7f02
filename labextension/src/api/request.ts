import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

/** An error answer, with the server's own sentence. */
export class APIError extends Error {
  constructor(
    readonly status: number,
    readonly kind: string,
    message: string
  ) {
    super(message);
    this.name = 'APIError';
  }

  /** Whether the environment does not keep what was asked for, which is no failure. */
  get notKept(): boolean {
    return this.kind === 'environment.not_kept';
  }
}

/** The session has ended: the server no longer accepts its credentials. */
export class SessionEnded extends APIError {
  constructor(status: number) {
    super(
      status,
      'session.ended',
      'Your session has ended: sign in to Jupyter again.'
    );
    this.name = 'SessionEnded';
  }
}

/** The Jupyter server did not answer. */
export class Unreachable extends Error {
  constructor() {
    super('The Jupyter server can’t be reached.');
    this.name = 'Unreachable';
  }
}

let ahead: number | null = null;

/** The server's time, in milliseconds, to a second; null where its last answer did not say. */
export function serverTime(): number | null {
  return ahead === null ? null : Date.now() + ahead;
}

/** A URL's query; undefined values are left out. */
export type Query = { [name: string]: string | number | undefined };

/** What is asked, beside the path. */
export interface IRequest<T> {
  init?: RequestInit;
  query?: Query;
  /** How the answer's body is read; default: as JSON. */
  read?: (response: Response) => Promise<T>;
}

async function json<T>(response: Response): Promise<T> {
  return (await response.json()) as T;
}

/**
 * Ask one of the server's TaskAPI routes.
 *
 * @param path the segments below `taskapi/`, not yet encoded.
 * @throws {APIError} with the server's sentence, {SessionEnded} where the session has ended;
 *   {Unreachable} where there was no answer.
 */
export async function requestAPI<T>(
  settings: ServerConnection.ISettings,
  path: readonly string[],
  options: IRequest<T> = {}
): Promise<T> {
  const { init = {}, query = {}, read = json<T> } = options;
  const url = urlOf(settings, path, query);
  let response: Response;
  try {
    response = await ServerConnection.makeRequest(url, init, settings);
  } catch (error) {
    if (init.signal?.aborted) {
      throw error;
    }
    throw new Unreachable();
  }
  const now = Date.parse(response.headers.get('Date') ?? '');
  ahead = Number.isNaN(now) ? null : now - Date.now();
  if (!response.ok) {
    const error = await errorOf(response);
    const { status } = error;
    if ((status === 401 || status === 403) && (await isSignedOut(settings))) {
      throw new SessionEnded(status);
    }
    throw error;
  }
  try {
    return await read(response);
  } catch (error) {
    if (init.signal?.aborted || error instanceof APIError) {
      throw error;
    }
    throw new Unreachable(); // the connection was lost in the middle of the answer
  }
}

/** Return the URL of a route; it carries no token. */
export function urlOf(
  settings: ServerConnection.ISettings,
  path: readonly string[],
  query: Query = {}
): string {
  const url = URLExt.join(
    settings.baseUrl,
    'taskapi',
    ...path.map(encodeURIComponent)
  );
  const given = Object.entries(query).filter(
    ([, value]) => value !== undefined
  );
  const text = new URLSearchParams(
    given.map(([name, value]) => [name, String(value)])
  ).toString();
  return text ? `${url}?${text}` : url;
}

/** Return the URL of the login page, which leads back to the page that is shown now. */
export function signInURL(settings: ServerConnection.ISettings): string {
  const hub = PageConfig.getOption('hubPrefix');
  const base = hub
    ? `${PageConfig.getOption('hubHost')}${hub}`
    : settings.baseUrl;
  const next = encodeURIComponent(window.location.pathname);
  return `${URLExt.join(base, 'login')}?next=${next}`;
}

/** Whether the session has ended, rather than this one request being forbidden: Jupyter itself is asked. */
async function isSignedOut(
  settings: ServerConnection.ISettings
): Promise<boolean> {
  const url = URLExt.join(settings.baseUrl, 'api/me');
  try {
    const { status } = await ServerConnection.makeRequest(url, {}, settings);
    return status === 401 || status === 403;
  } catch {
    return false;
  }
}

async function errorOf(response: Response): Promise<APIError> {
  const text = await response.text().catch(() => '');
  let kind = 'error';
  let message = '';
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null) {
      const { kind: k, message: m } = body as { [key: string]: unknown };
      kind = typeof k === 'string' ? k : kind;
      message = typeof m === 'string' ? m : '';
    }
  } catch {
    // a proxy on the way answers in HTML
  }
  return new APIError(
    response.status,
    kind,
    message || `The server answered ${response.status} ${response.statusText}.`
  );
}
