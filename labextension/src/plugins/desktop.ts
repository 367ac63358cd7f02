/** Desktop notifications: the browser shows them outside of its window, once it was allowed to by a click. */
import { Notification as Message } from '@jupyterlab/apputils';
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import { clean } from '../ui/format';
import { CommandIDs } from '../tokens';
import type { IWords } from './told';

/** Characters of a body that are handed over; systems show fewer. */
const LONGEST = 300;

/** Milliseconds that a message about them stays on the screen. */
const STAYS = 15_000;

/** Desktop notifications of this page. */
export class Desktop {
  constructor(private readonly trans: TranslationBundle) {}

  /** Whether they are shown may have changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  /** Whether the user wants them: a setting. */
  get enabled(): boolean {
    return this._enabled;
  }
  set enabled(enabled: boolean) {
    this._enabled = enabled;
    (this.changed as Signal<this, void>).emit();
  }

  /** Whether this browser may show them. */
  get isAllowed(): boolean {
    return 'Notification' in window && Notification.permission === 'granted';
  }

  /** Whether they are shown. */
  get isOn(): boolean {
    return this.enabled && this.isAllowed;
  }

  /** Ask for permission, upon a click only, and say what came of it; return whether they may be shown. */
  async ask(): Promise<boolean> {
    const { trans } = this;
    if ('Notification' in window && Notification.permission === 'default') {
      await Notification.requestPermission();
      (this.changed as Signal<this, void>).emit();
    }
    const why = this.obstacle();
    if (why) {
      Message.warning(why, { autoClose: STAYS });
    } else {
      Message.success(
        trans.__('This browser shows desktop notifications when jobs end.'),
        { autoClose: STAYS }
      );
    }
    return !why;
  }

  /** Say why they can't be shown, and what to do; empty where they can. */
  private obstacle(): string {
    const { trans } = this;
    if (!window.isSecureContext) {
      return trans.__(
        'No desktop notifications: browsers have them only over https, or on localhost.'
      );
    }
    if (!('Notification' in window)) {
      return trans.__('This browser has no desktop notifications.');
    }
    switch (Notification.permission) {
      case 'granted':
        return '';
      case 'denied':
        return trans.__(
          'This browser denies notifications. Set them to “Allow” in its settings of this site, beside the address, and try again.'
        );
      default:
        return trans.__(
          'This browser was not allowed to show notifications: choose “Desktop Notifications When Jobs End” to be asked again.'
        );
    }
  }

  /**
   * Show one, in the place of others: of `key`, and of those in `replaces`.
   *
   * @param act what a click on it does, after it has brought the page to the front.
   */
  show(
    key: string,
    { title, body }: IWords,
    act: () => void,
    replaces: readonly string[] = []
  ): void {
    if (!this.isOn) {
      return;
    }
    replaces.forEach(one => this._shown.get(one)?.close());
    replaces.forEach(one => this._shown.delete(one));
    let shown: Notification;
    try {
      shown = new Notification(title, { body: clean(body, LONGEST), tag: key });
    } catch {
      return; // phones have them by service workers alone; Lab's message is there
    }
    this._shown.set(key, shown);
    shown.onclick = () => {
      window.focus();
      shown.close();
      act();
    };
    shown.onclose = () => {
      if (this._shown.get(key) === shown) {
        this._shown.delete(key);
      }
    };
  }

  private _enabled = false;
  /** Those that are shown, by their keys. */
  private _shown = new Map<string, Notification>();
}

/** Let the setting and a command turn them on and off. */
export function connectDesktop(
  commands: CommandRegistry,
  desktop: Desktop,
  settings: ISettingRegistry.ISettings,
  trans: TranslationBundle
): void {
  const wanted = () => settings.get('desktop').composite === true;
  desktop.enabled = wanted();
  settings.changed.connect(() => {
    const before = desktop.enabled;
    desktop.enabled = wanted();
    // A click in the settings asks for permission; that they were read does not.
    if (desktop.enabled && !before) {
      void desktop.ask();
    }
  });
  commands.addCommand(CommandIDs.desktop, {
    label: trans.__('Desktop Notifications When Jobs End'),
    caption: trans.__(
      'Have this browser show desktop notifications; it asks for permission'
    ),
    describedBy: { args: { type: 'object', properties: {} } },
    isToggleable: true,
    isToggled: () => desktop.isOn,
    execute: async () => {
      const on = !desktop.isOn;
      if (!on || (await desktop.ask())) {
        desktop.enabled = on;
        await settings.set('desktop', on);
      }
    }
  });
  desktop.changed.connect(() =>
    commands.notifyCommandChanged(CommandIDs.desktop)
  );
}
