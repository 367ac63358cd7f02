import { Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import { hasEnded } from '../api/contract';
import type { IMove, TaskAPIModel } from '../model/model';
import { clean } from '../ui/format';
import { NAMESPACE } from '../tokens';

/** Milliseconds from the end of a job until it is looked what its receivers said; jobs meanwhile share a look. */
const ANSWERED = 5_000;

/**
 * Tells, once in each browser, of names in config.yaml that their receivers have switched off.
 *
 * Looks when a page is opened, and after jobs have ended, where there are names at all.
 */
export class SwitchedOff {
  /** @param server the server's base URL: several may share an origin, and so its storage. */
  constructor(
    private readonly model: TaskAPIModel,
    private readonly trans: TranslationBundle,
    server: string
  ) {
    this._key = `${NAMESPACE}:switched-off:${server}`;
    model.moved.connect(this.onMoved, this);
    void this.look();
  }

  private onMoved(_: unknown, { job }: IMove): void {
    if (hasEnded(job)) {
      this._timer ??= setTimeout(() => void this.look(), ANSWERED);
    }
  }

  private async look(): Promise<void> {
    this._timer = null;
    const { client, local } = this.model;
    const names = await client.notifications(local.environment).then(
      answer => answer.names,
      () => [] // an older server, or one that is away
    );
    if (!names.length) {
      this.model.moved.disconnect(this.onMoved, this);
    }
    const known = this.read();
    const off: Record<string, string> = {};
    for (const { name, switched_off: why } of names) {
      if (why) {
        off[name] = why;
        if (known[name] !== why) {
          this.tell(name, why);
        }
      }
    }
    if (names.length) {
      localStorage.setItem(this._key, JSON.stringify(off));
    }
  }

  private tell(name: string, why: string): void {
    const words = this.trans.__(
      'Nothing is sent to %1 any more: %2. “jupyter taskapi notify test %1” tries again.',
      name,
      clean(why)
    );
    Notification.warning(words, { autoClose: false });
  }

  private read(): Record<string, string> {
    try {
      return (JSON.parse(localStorage.getItem(this._key) ?? '') ??
        {}) as Record<string, string>;
    } catch {
      return {}; // nothing yet, or what somebody else wrote
    }
  }

  private readonly _key: string;
  private _timer: ReturnType<typeof setTimeout> | null = null;
}
