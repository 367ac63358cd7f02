import { ISignal, Signal } from '@lumino/signaling';
import type { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import type { LogBuffer } from '../text/buffer';
import type { IMatch, LogSearch } from '../text/search';
import { Viewport } from './viewport';

const LINES = 'jp-TaskAPI-log-lines';

/** Milliseconds after the last scrolling until the scrollbar may be corrected. */
const REST = 150;

/** The rows of a log: scrolls, follows, selects; only the rows in view are drawn. */
export class LogLines extends Widget {
  constructor(
    private readonly buffer: LogBuffer,
    search: LogSearch
  ) {
    super();
    this.addClass(LINES);
    this.node.tabIndex = 0;
    this.node.setAttribute('role', 'log');
    this.node.setAttribute('aria-live', 'off'); // a screen reader should not read out a flood of lines
    this.viewport = new Viewport(this.node, buffer, search);
    this._observer = new ResizeObserver(() => this.measure());
  }

  /** `follow` changed. */
  readonly followChanged: ISignal<this, void> = new Signal<this, void>(this);

  /** Whether the end stays in view. */
  get follow(): boolean {
    return this._follow;
  }
  set follow(follow: boolean) {
    if (follow !== this._follow) {
      this._follow = follow;
      this.viewport.stay();
      (this.followChanged as Signal<this, void>).emit();
      this.refresh();
    }
  }

  /** Whether long lines are wrapped. */
  set wrap(wrap: boolean) {
    this.viewport.scale.wrap = wrap;
    this.toggleClass('jp-mod-wrap', wrap);
    this.viewport.remeasure();
    this.node.scrollLeft = 0;
    this.refresh();
  }

  /** Whether lines have numbers. */
  set numbers(numbers: boolean) {
    this.toggleClass('jp-mod-numbers', numbers);
    this.refresh();
  }

  /** The first row in view. */
  get first(): number {
    const { rows, height, line } = this.viewport.scale;
    return this._follow
      ? Math.max(rows - Math.floor(height / line), 0)
      : this.viewport.first;
  }

  /** Draw what changed, with the next frame. */
  refresh(): void {
    if (!this._frame && this.isVisible) {
      this._frame = requestAnimationFrame(() => {
        this._frame = 0;
        this.draw();
      });
    }
  }

  /** Mark a match as the one that the user is at, and bring it into view; null for none. */
  reveal(match: IMatch | null): void {
    this.viewport.rows.current = match;
    if (match) {
      this.follow = false;
      this.viewport.reveal(match);
    }
    this.refresh();
  }

  /** Return the text that is selected in here, or the number of its bytes where that is more than `limit`. */
  selected(limit: number): string | number {
    const places = this.viewport.selection.range;
    if (!places) {
      return '';
    }
    const [from, to] = places;
    let bytes = 0;
    for (let row = from.row; row <= to.row; row++) {
      bytes += this.buffer.length(row);
    }
    return bytes > limit
      ? bytes
      : this.buffer.text(from.row, from.column, to.row, to.column);
  }

  /** Select everything. */
  selectAll(): void {
    const last = this.buffer.rows - 1;
    if (last >= 0) {
      const { rows, selection } = this.viewport;
      rows.pins = [0, last];
      this.draw();
      selection.set([
        { row: 0, column: 0 },
        { row: last, column: Infinity }
      ]);
    }
  }

  dispose(): void {
    if (!this.isDisposed) {
      cancelAnimationFrame(this._frame);
      clearTimeout(this._rest);
      this._observer.disconnect();
      Signal.clearData(this);
      super.dispose();
    }
  }

  handleEvent(event: Event): void {
    switch (event.type) {
      case 'scroll':
        this.onScroll();
        break;
      case 'wheel':
        if ((event as WheelEvent).deltaY < 0) {
          this.leaveEnd(); // else the next line would scroll back at once
        }
        break;
      case 'keydown':
        this.onKey(event as KeyboardEvent);
        break;
      case 'selectionchange':
        this.onSelection();
        break;
    }
  }

  protected onAfterAttach(_: Message): void {
    this.node.addEventListener('scroll', this, { passive: true });
    this.node.addEventListener('wheel', this, { passive: true });
    this.node.addEventListener('keydown', this);
    document.addEventListener('selectionchange', this);
    this._observer.observe(this.node);
    this.measure();
  }

  protected onBeforeDetach(_: Message): void {
    this.node.removeEventListener('scroll', this);
    this.node.removeEventListener('wheel', this);
    this.node.removeEventListener('keydown', this);
    document.removeEventListener('selectionchange', this);
    this._observer.disconnect();
  }

  protected onAfterShow(_: Message): void {
    this.measure();
  }

  protected onActivateRequest(_: Message): void {
    this.node.focus();
  }

  private measure(): void {
    if (!this.isVisible || !this.node.clientHeight) {
      return;
    }
    const style = getComputedStyle(this.node);
    const line = Math.round(Number.parseFloat(style.lineHeight)) || 17;
    const { scale } = this.viewport;
    scale.height = this.node.clientHeight;
    if (line !== scale.line) {
      scale.line = line;
      this.node.style.setProperty('--jp-TaskAPI-log-line', `${line}px`);
      this.viewport.remeasure();
    }
    this.refresh();
  }

  private onScroll(): void {
    const scrolled = this.viewport.scrolled();
    if (!scrolled) {
      return;
    }
    const { step, isEnd } = scrolled;
    if (isEnd) {
      this.follow ||= step > 0; // up to here a step back is the browser's, as when the tab gets higher
    } else if (step < 0) {
      this.leaveEnd();
    }
    this.refresh();
    clearTimeout(this._rest);
    if (!this.viewport.scale.isExact) {
      this._rest = window.setTimeout(() => {
        this._isAtRest = true;
        this.refresh();
      }, REST);
    }
  }

  private leaveEnd(): void {
    if (this.node.scrollHeight > this.viewport.scale.height) {
      this.follow = false;
    }
  }

  private onKey(event: KeyboardEvent): void {
    if (event.altKey || event.shiftKey) {
      return;
    }
    const { line, height } = this.viewport.scale;
    const isAccel = event.ctrlKey || event.metaKey;
    const step = {
      PageUp: 2 * line - height,
      PageDown: height - 2 * line,
      ArrowUp: -line,
      ArrowDown: line
    }[event.key];
    if (isAccel && event.key === 'a') {
      this.selectAll();
    } else if (event.key === 'Home') {
      this.leaveEnd();
      this.viewport.goTo(0);
      this.node.scrollLeft = 0;
      this.refresh();
    } else if (event.key === 'End') {
      this.follow = true;
    } else if (step && !isAccel) {
      if (step < 0) {
        this.leaveEnd();
      }
      this.node.scrollTop += step;
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private draw(): void {
    if (!this.isDisposed && this.isVisible && this.viewport.scale.height) {
      const isMore = this.viewport.draw(this._follow, this._isAtRest);
      this._isAtRest = false;
      if (isMore) {
        this.refresh();
      }
    }
  }

  private onSelection(): void {
    const { rows, selection } = this.viewport;
    const { places, range } = selection;
    rows.pins = places?.map(place => place.row) ?? [];
    if (range) {
      this.follow = false; // else the text would scroll away
    }
  }

  private viewport: Viewport;
  private _follow = true;
  private _frame = 0;
  private _rest = 0;
  private _isAtRest = false;
  private _observer: ResizeObserver;
}
