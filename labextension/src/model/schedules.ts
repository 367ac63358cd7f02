import type { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import type { TaskAPIClient } from '../api/client';
import type { Schedule } from '../api/contract';
import { APIError } from '../api/request';

/**
 * The schedules of one environment, as this browser knows them.
 *
 * It reads when it is called: `refresh` always, `look` unless this environment keeps none.
 */
export class Schedules implements IDisposable {
  constructor(
    readonly environment: string,
    private readonly client: TaskAPIClient
  ) {}

  /** Something that is shown may have changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  /** The schedules by name. */
  get all(): readonly Schedule[] {
    return this._all;
  }

  /** What the server says of a reboot of its machine; empty where it says nothing. */
  get hint(): string {
    return this._hint;
  }

  /** Whether this environment keeps schedules: a cluster of Cortex and an older server don't; null while unknown. */
  get kept(): boolean | null {
    return this._kept;
  }

  get(name: string): Schedule | undefined {
    return this._all.find(one => one.name === name);
  }

  /** Read them. */
  refresh(): Promise<void> {
    // What changes while an answer is on its way may not be in it.
    this._wanted = true;
    this._reading ??= this.read().finally(() => {
      this._reading = null;
    });
    return this._reading;
  }

  /** Read them again, as something may have changed. */
  async look(): Promise<void> {
    if (this._kept !== false) {
      await this.refresh();
    }
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    Signal.clearData(this);
  }

  private async read(): Promise<void> {
    while (this._wanted && !this._disposed) {
      this._wanted = false;
      const before = JSON.stringify([this._kept, this._hint, this._all]);
      try {
        const { schedules, hint } = await this.client.schedules(
          this.environment
        );
        this._all = schedules.map(one => this.sameAs(one));
        this._hint = hint ?? '';
        this._kept = true;
      } catch (error) {
        if (error instanceof APIError && (error.notKept || isUnknown(error))) {
          this._kept = false;
          this._all = [];
        }
        // Where the server is away, the list of jobs says so, and what was known stays.
      }
      const after = JSON.stringify([this._kept, this._hint, this._all]);
      if (after !== before && !this._disposed) {
        (this.changed as Signal<this, void>).emit();
      }
    }
  }

  /** Return a schedule as it was known, where nothing of it changed: what shows it need not be drawn again. */
  private sameAs(read: Schedule): Schedule {
    const known = this.get(read.name);
    return known && JSON.stringify(known) === JSON.stringify(read)
      ? known
      : read;
  }

  private _all: readonly Schedule[] = [];
  private _hint = '';
  private _kept: boolean | null = null;
  private _wanted = false;
  private _reading: Promise<void> | null = null;
  private _disposed = false;
}

/** Whether the server has no such route, as an older one. */
function isUnknown({ status }: APIError): boolean {
  return status === 404 || status === 405;
}
