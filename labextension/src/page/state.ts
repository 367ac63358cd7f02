import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { ISignal, Signal } from '@lumino/signaling';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { Job } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import { Search } from '../model/search';
import type { IColumn } from './columns';
import { columnsOf, inProgressFirst, sorted } from './columns';
import type { JobSource } from './source';

/** By which column rows are sorted; null: what is in progress comes first. */
export type Order = { column: string; descending: boolean } | null;

/** Which columns a person showed and hid, for all pages. */
export class Choice {
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  get(): { [id: string]: boolean } {
    return this._shown;
  }

  set(shown: { [id: string]: boolean }): void {
    this._shown = shown;
    (this.changed as Signal<this, void>).emit();
  }

  private _shown: { [id: string]: boolean } = {};
}

/** What of a page was chosen: filters, order, rows; and what follows from it. */
export class PageState {
  constructor(
    readonly source: JobSource,
    readonly choice: Choice,
    private readonly trans: TranslationBundle
  ) {
    choice.changed.connect(this.emit, this);
  }

  /** A choice was made. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  search = '';
  status = '';
  api = '';
  order: Order = null;
  /** Whether the chosen jobs are compared below the table. */
  comparing = false;
  selected: ReadonlySet<string> = new Set();
  /** The row that has or had the focus, and the one that a range began with. */
  cursor: string | null = null;
  anchor: string | null = null;
  /** Jobs that the server found by the search. */
  found: ReadonlySet<string> = new Set();

  get narrowed(): boolean {
    return !!(this.search.trim() || this.status || this.api);
  }

  set(
    choice: Partial<
      Pick<
        PageState,
        | 'search'
        | 'status'
        | 'api'
        | 'order'
        | 'comparing'
        | 'selected'
        | 'cursor'
        | 'anchor'
        | 'found'
      >
    >
  ): void {
    Object.assign(this, choice);
    this.emit();
  }

  /** All columns, and those that are shown. */
  get columns(): { all: IColumn[]; shown: IColumn[] } {
    const { source } = this;
    const key = `${source.version} ${this.api}`;
    if (this._columns?.key !== key) {
      const all = columnsOf(source, this.api, this.trans);
      const text = JSON.stringify(all); // without their functions, which depend on nothing else
      this._columns =
        text === this._columns?.text
          ? { ...this._columns, key }
          : { key, all, text };
    }
    const chosen = this.choice.get();
    const { all } = this._columns;
    if (this._chosen?.all !== all || this._chosen.by !== chosen) {
      const shown = all.filter(
        ({ id, isShown }) => id === 'status' || (chosen[id] ?? isShown)
      );
      this._chosen = { all, by: chosen, shown };
    }
    return this._chosen;
  }

  /** The jobs that pass the filters, in order. */
  get shown(): readonly Job[] {
    const { source, search, status, api, order, found } = this;
    const key = JSON.stringify([source.version, search, status, api, order]);
    if (this._shown?.key !== key || this._shown.found !== found) {
      const wanted = new Search(search);
      const passing: Job[] = [];
      for (const job of source.jobs) {
        if (
          (!api || job.api_name === api) &&
          (!status || statusOf(job) === status) &&
          (found.has(job.job_id) || wanted.fits(job))
        ) {
          passing.push(job);
        }
      }
      const column =
        order && this.columns.all.find(({ id }) => id === order.column);
      const jobs = column
        ? sorted(passing, column, order.descending)
        : inProgressFirst(passing, source.group !== null);
      this._shown = { key, found, jobs };
    }
    return this._shown.jobs;
  }

  /** The chosen jobs that are shown, in order. */
  get chosen(): readonly Job[] {
    const { selected, shown } = this;
    if (this._picked?.of !== shown || this._picked.by !== selected) {
      const jobs = selected.size
        ? shown.filter(job => selected.has(job.job_id))
        : [];
      const ended = jobs.filter(hasEnded).length;
      this._picked = { of: shown, by: selected, jobs, ended };
    }
    return this._picked.jobs;
  }

  /** How many of them have ended. */
  get chosenEnded(): number {
    return this.chosen && (this._picked?.ended ?? 0);
  }

  toJSON(): ReadonlyPartialJSONObject {
    const { search, status, api, order } = this;
    return { search, status, api, order };
  }

  /** Restore what was kept; invalid values are ignored. */
  restore(kept: unknown): void {
    if (typeof kept !== 'object' || kept === null) {
      return;
    }
    const { search, status, api, order } = kept as { [key: string]: unknown };
    const text = (value: unknown) => (typeof value === 'string' ? value : '');
    const { column, descending } = (order ?? {}) as { [key: string]: unknown };
    this.set({
      search: text(search),
      status: text(status),
      api: text(api),
      order:
        typeof column === 'string'
          ? { column, descending: descending === true }
          : null
    });
  }

  private emit(): void {
    (this.changed as Signal<this, void>).emit();
  }

  private _columns: { key: string; all: IColumn[]; text: string } | null = null;
  private _chosen: { all: IColumn[]; by: object; shown: IColumn[] } | null =
    null;
  private _picked: {
    of: readonly Job[];
    by: ReadonlySet<string>;
    jobs: readonly Job[];
    ended: number;
  } | null = null;
  private _shown: {
    key: string;
    found: ReadonlySet<string>;
    jobs: readonly Job[];
  } | null = null;
}
