import type { CodeCell } from '@jupyterlab/cells';
import type { ICell } from '@jupyterlab/nbformat';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { IJobRef } from '../api/client';
import type { Cell, Job } from '../api/contract';
import { hasEnded } from '../api/contract';
import { APIError } from '../api/request';
import type { TaskAPIModel } from '../model/model';
import { isCode, shown } from './cells';
import { isNotYet } from './drive';
import { changedCells, patch } from './patch';

/** Milliseconds between two polls of a notebook whose job runs. */
const INTERVAL = 1_000;

const RUNS = 'jp-TaskAPI-Cell-running';
const FAILED = 'jp-TaskAPI-Cell-failed';

/** Keeps a tab as its job's notebook is, while the job runs and the tab is in sight. */
export class LiveNotebook implements IDisposable {
  /** `cellsOf` returns the cells that Lab read last. */
  constructor(
    readonly ref: IJobRef,
    readonly panel: NotebookPanel,
    private readonly model: TaskAPIModel,
    private readonly trans: TranslationBundle,
    private readonly cellsOf: () => readonly ICell[]
  ) {
    this.cells = cellsOf();
    this.version = panel.context.contentsModel?.hash ?? '';
    this.poll = new Poll({
      auto: false,
      factory: () => this.read(),
      frequency: { interval: INTERVAL, backoff: false },
      name: `taskapi-jupyter:notebook:${ref.id}`,
      standby: () => document.hidden || !panel.isVisible
    });
    panel.context.model.stateChanged.connect(this.keepClean, this);
    model.changed.connect(this.onModel, this);
    this.mark();
    void this.poll.start();
  }

  /** What is shown around the notebook changed. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  get job(): Job | null {
    return this.model.jobs(this.ref.environment).get(this.ref.id) ?? null;
  }

  /** What went wrong, or what else to know: a sentence, or empty. */
  get message(): string {
    return this._message;
  }

  /** The cell that runs, or at which the job ended. */
  get cell(): Cell | null {
    return this.job?.cell ?? null;
  }

  /** Whether the tab has the cell that runs or that failed. */
  get canGo(): boolean {
    return this.place() >= 0;
  }

  /** Bring the cell that runs or that failed into sight. */
  async goToCell(): Promise<void> {
    const { content } = this.panel;
    const at = this.place();
    if (at >= 0) {
      content.activeCellIndex = at;
      content.deselectAll();
      await content.scrollToItem(at, 'center');
    }
  }

  get isDisposed(): boolean {
    return this.poll.isDisposed;
  }

  dispose(): void {
    if (!this.isDisposed) {
      this.poll.dispose();
      this.model.changed.disconnect(this.onModel, this);
      Signal.clearData(this);
    }
  }

  /** Read the job, then its notebook: what has ended saves no more. */
  private async read(): Promise<void> {
    const { environment, id } = this.ref;
    const { client } = this.model;
    let message = '';
    try {
      await this.model.jobs(environment).refreshJob(id);
      const isOver = !this.job || hasEnded(this.job);
      const changes = await client.changes(this.ref, this.version);
      if (this.isDisposed) {
        return;
      }
      if (!this.cells.length) {
        await this.reload(); // its first save, with its language
        return;
      }
      const cells = changedCells(
        this.cells,
        changes.total,
        changes.cells.map(([at, cell]) => [at, shown(cell as unknown as ICell)])
      );
      this.version = cells ? changes.version : '';
      if (cells && changes.cells.length) {
        patch(this.panel.context.model, this.cells, cells);
        this.cells = cells;
        this.marked = '';
        this.emit();
      }
      if (isOver && cells) {
        void this.poll.stop();
      }
    } catch (error) {
      message = isNotYet(error)
        ? this.trans.__('The job has not saved its notebook yet.')
        : (error as Error).message;
      if (error instanceof APIError && error.status < 500 && !isNotYet(error)) {
        void this.poll.stop();
      }
    }
    if (this.isDisposed) {
      return;
    }
    this.mark();
    if (message !== this._message) {
      this._message = message;
      this.emit();
    }
  }

  /** Show all of it anew, as Lab does. */
  private async reload(): Promise<void> {
    const { context } = this.panel;
    await context.revert();
    if (!this.isDisposed) {
      this.cells = this.cellsOf();
      this.version = context.contentsModel?.hash ?? '';
      this.marked = '';
      this.emit();
    }
  }

  private onModel(): void {
    this.mark();
    this.emit();
  }

  /** Mark the cell that runs, and the one that failed. */
  private mark(): void {
    const { job, cell } = this;
    const isOver = !!job && hasEnded(job);
    const mark = JSON.stringify([cell, isOver]);
    if (mark === this.marked) {
      return;
    }
    this.marked = mark;
    const at = this.place();
    const runs = !isOver && cell?.status === 'running';
    this.panel.content.widgets.forEach((widget, index) => {
      widget.toggleClass(RUNS, runs && index === at);
      widget.toggleClass(FAILED, !runs && index === at);
      if (widget.model.type === 'code') {
        const { model } = widget as CodeCell;
        const state = runs && index === at ? 'running' : 'idle';
        if (model.executionState !== state) {
          model.executionState = state; // Lab shows it as [*]
        }
      }
    });
    this.panel.context.model.dirty = false;
  }

  /** Return the index of the cell that runs or failed, -1 where there is none. */
  private place(): number {
    const { cell } = this;
    if (!cell) {
      return -1;
    }
    const at = this.cells.findIndex(one => one.id && one.id === cell.id);
    return at >= 0 || !this.cells[cell.index] || !isCode(this.cells[cell.index])
      ? at
      : cell.index;
  }

  /** What a person folds away is no change that could be saved. */
  private keepClean(): void {
    this.panel.context.model.dirty = false;
  }

  private emit(): void {
    if (!this.isDisposed) {
      (this.changed as Signal<this, void>).emit();
    }
  }

  private cells: readonly ICell[];
  private version: string;
  private marked = '';
  private _message = '';
  private poll: Poll;
}
