import type { TranslationBundle } from '@jupyterlab/translation';
import type { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import type { IJobRef } from '../api/client';
import type { TaskAPIModel } from '../model/model';
import type { IMatch } from './text/search';
import { LogSearch } from './text/search';
import { LogSource } from './source';

/** Milliseconds of a frame that a search may take. */
const SLICE = 8;

/** What a log's view and the parts around its lines share: the log as it is read, and the search through it. */
export class LogModel implements IDisposable {
  constructor(
    readonly ref: IJobRef,
    model: TaskAPIModel,
    readonly trans: TranslationBundle
  ) {
    this.source = new LogSource(ref, model, trans);
    this.search = new LogSearch(this.source.buffer);
    this.source.changed.connect(() => {
      this.searchOn();
      this.emit();
    });
  }

  readonly source: LogSource;
  readonly search: LogSearch;

  /** What is shown around the lines changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  /** Whether this log keeps its tab: else the next log that is opened takes its place. */
  pinned = false;

  /** The user went to another match; null for none. */
  readonly matchChanged: ISignal<this, IMatch | null> = new Signal<
    this,
    IMatch | null
  >(this);

  /** Return the row from which the search for the first match starts. */
  origin: () => number = () => 0;

  /** The number of the match that the user is at, from 0; null where there is none. */
  get match(): number | null {
    return this._match;
  }

  /** What is searched for. */
  set query(query: string) {
    this._origin = this.origin();
    this.search.query = query;
    this.setMatch(null);
    this.searchOn();
  }

  /** Go so many matches on, from the last to the first. */
  goToMatch(by: number): void {
    const { count } = this.search;
    if (count) {
      const from = this._match ?? (by > 0 ? -1 : 0);
      this._origin = null;
      this.setMatch((from + by + count) % count);
    }
  }

  /** Have the parts around the lines drawn again. */
  emit(): void {
    (this.changed as Signal<this, void>).emit();
  }

  get isDisposed(): boolean {
    return this.source.isDisposed;
  }

  dispose(): void {
    cancelAnimationFrame(this._slice);
    this.source.dispose();
    Signal.clearData(this);
  }

  /** Search what was not searched yet, a slice each frame. */
  private searchOn(): void {
    if (this._slice || this.search.done) {
      return;
    }
    this._slice = requestAnimationFrame(() => {
      this._slice = 0;
      this.search.step(SLICE);
      this.goToFirst();
      this.emit();
      this.searchOn();
    });
  }

  /** Go to the first match from where the user was, once it is found. */
  private goToFirst(): void {
    const { search } = this;
    if (this._origin === null || !search.count) {
      return;
    }
    const first = search.from(this._origin);
    if (first < search.count || search.done) {
      this._origin = null;
      this.setMatch(first < search.count ? first : 0);
    }
  }

  private setMatch(match: number | null): void {
    this._match = match;
    (this.matchChanged as Signal<this, IMatch | null>).emit(
      match === null ? null : this.search.match(match)
    );
    this.emit();
  }

  private _match: number | null = null;
  private _origin: number | null = null;
  private _slice = 0;
}
