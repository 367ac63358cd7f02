import { URLExt } from '@jupyterlab/coreutils';
import type { ServerConnection } from '@jupyterlab/services';
import type { IDisposable } from '@lumino/disposable';

import type { IJobRef } from '../api/client';

/** Milliseconds of silence after which an ended job's stream is closed. */
const SILENCE = 5_000;

/** The websocket that a cluster's log comes through. */
export class LogStream implements IDisposable {
  constructor(
    ref: IJobRef,
    route: string,
    settings: ServerConnection.ISettings,
    handlers: {
      opened: () => void;
      received: (text: string) => void;
      /** Whether the job is known to have ended. */
      ended: () => boolean;
    }
  ) {
    const socket = new settings.WebSocket(addressOf(ref, route, settings));
    this._socket = socket;
    let isOpen = false;
    let heard = Date.now();
    const silence = setInterval(() => {
      if (handlers.ended() && Date.now() - heard > SILENCE) {
        socket.close(1000); // some clusters never close it
      }
    }, 1_000);
    this.closed = new Promise(resolve => {
      socket.onopen = () => {
        isOpen = true;
        handlers.opened();
      };
      socket.onmessage = ({ data }: MessageEvent<unknown>) => {
        heard = Date.now();
        if (typeof data === 'string') {
          handlers.received(data);
        }
      };
      socket.onclose = event => {
        clearInterval(silence);
        this._isDisposed = true;
        resolve(isOpen ? event : null);
      };
    });
  }

  /** How it was closed; null where it was never open. */
  readonly closed: Promise<CloseEvent | null>;

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._socket.close();
  }

  private _socket: WebSocket;
  private _isDisposed = false;
}

function addressOf(
  { api, environment, id }: IJobRef,
  route: string,
  settings: ServerConnection.ISettings
): string {
  const path = ['taskapi', environment, route, api].map(encodeURIComponent);
  const query = new URLSearchParams({ jobID: id });
  if (settings.appendToken && settings.token) {
    query.set('token', settings.token);
  }
  return `${URLExt.join(settings.wsUrl, ...path)}?${query.toString()}`;
}
