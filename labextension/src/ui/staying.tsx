import { Dialog } from '@jupyterlab/apputils';
import { ReactWidget } from '@jupyterlab/ui-components';
import { ISignal, Signal } from '@lumino/signaling';
import React from 'react';

import type { Wrong } from './fields';

/** The body of a dialog that stays until what it asks for was done. */
export abstract class StayingBody extends ReactWidget {
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  /** What is wrong, as last said. */
  wrong: Wrong = {};

  /** Whether the server works on it. */
  busy = false;

  /** The label of the button that does it. */
  abstract readonly label: string;

  /** Check what is typed. */
  abstract check(): Wrong;

  /** Do it; throws what the server says. */
  abstract act(): Promise<void>;

  /** Return the field that a sentence of the server is about; empty where it is about none of them. */
  abstract fieldIn(message: string): string;

  /** Act on what is typed, where nothing is wrong with it; return whether it was done. */
  async attempt(): Promise<boolean> {
    this.say(this.check());
    if (Object.keys(this.wrong).length) {
      return false;
    }
    this.busy = true;
    this.say({});
    try {
      await this.act();
      return true;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.busy = false;
      this.say({ [this.fieldIn(message)]: message });
      return false;
    } finally {
      this.busy = false;
    }
  }

  /** Say what is wrong. */
  say(wrong: Wrong): void {
    this.wrong = wrong;
    this.draw();
  }

  /** Draw it again. */
  draw(): void {
    (this.changed as Signal<this, void>).emit();
  }
}

/** Give the focus to the first field; once something is wrong, to the first that is, and bring it into view. */
export function useFocus(body: StayingBody): void {
  const { wrong } = body;
  React.useLayoutEffect(() => {
    const first = 'input:not(:disabled, [type=radio])';
    body.node.querySelector<HTMLElement>(first)?.focus();
  }, [body]);
  React.useEffect(() => {
    if (!Object.keys(wrong).length) {
      return;
    }
    const first = body.node.querySelector<HTMLElement>('[aria-invalid=true]');
    first?.scrollIntoView({ block: 'center' });
    first?.focus();
  }, [body, wrong]);
}

/** Lab's own dialog, which stays until what it asks for was done. */
export class StayingDialog extends Dialog<unknown> {
  constructor(title: string, body: StayingBody) {
    super({
      title,
      body,
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: body.label })],
      // Lab gives the focus once the browser is idle, when somebody may have begun to type: it stays where it is.
      focusNodeSelector: ':focus'
    });
    this.addClass('jp-TaskAPI-RunDialog');
    this.body = body;
    body.changed.connect(this.onChanged, this);
  }

  /** Enter and a click on a button come here. */
  resolve(index = 1): void {
    if (index === 0) {
      super.resolve(0);
    } else if (!this.body.busy) {
      void this.body.attempt().then(done => {
        if (done) {
          super.resolve(1);
        }
      });
    }
  }

  handleEvent(event: Event): void {
    const isLine =
      event instanceof KeyboardEvent &&
      event.key === 'Enter' &&
      event.target instanceof HTMLElement &&
      // which an older Lab takes for the button
      (event.target instanceof HTMLTextAreaElement ||
        event.target.isContentEditable ||
        event.target.matches('[role=tab], summary'));
    if (!isLine) {
      super.handleEvent(event);
    }
  }

  /** The button says what it does. */
  private onChanged(): void {
    const button = this.node.querySelector('.jp-Dialog-button.jp-mod-accept');
    const words = button?.querySelector('.jp-Dialog-buttonLabel');
    const { label } = this.body;
    if (button && words && words.textContent !== label) {
      words.textContent = label;
      button.setAttribute('aria-label', label);
    }
  }

  private body: StayingBody;
}
