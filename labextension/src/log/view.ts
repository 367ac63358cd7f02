import { Clipboard, MainAreaWidget, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import {
  copyIcon,
  downloadIcon,
  LabIcon,
  listIcon,
  numberingIcon,
  stopIcon,
  Toolbar
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { Message } from '@lumino/messaging';
import { ISignal, Signal } from '@lumino/signaling';
import { PanelLayout, Widget } from '@lumino/widgets';

import type { IJobRef } from '../client';
import { clean, shortId, size } from '../format';
import type { TaskAPIModel } from '../model';
import { CommandIDs } from '../tokens';
import { download } from '../ui';
import { LogLines } from './lines';
import { Blank, buttonOf, Foot, Head, widgetOf } from './parts';
import type { IToolbarButton } from './parts';
import { LogSearch } from './search';
import { LogSource } from './source';

/** Milliseconds of a frame that a search may take. */
const SLICE = 8;

/** Bytes that the clipboard is given, at most. */
const COPIED = 16 << 20;

const wrapIcon = new LabIcon({
  name: 'taskapi-jupyter:wrap',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
    <g class="jp-icon-none" fill="none" stroke-width="2">
      <path class="jp-icon3 jp-icon-selectable-inverse" stroke="#616161"
        d="M3 6h18M3 12h14.5a3 3 0 0 1 0 6H13M3 18h5M15.5 15l-3 3 3 3"/>
    </g>
  </svg>`
});

const endIcon = new LabIcon({
  name: 'taskapi-jupyter:follow',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
    <g class="jp-icon-none" fill="none" stroke-width="2">
      <path class="jp-icon3 jp-icon-selectable-inverse" stroke="#616161"
        d="M12 3v13M6 10.5l6 6 6-6M5 20.5h14"/>
    </g>
  </svg>`
});

/** The log of a job: its lines, and around them the job, a search, and what there is to know. */
export class LogView extends Widget {
  constructor(
    readonly ref: IJobRef,
    model: TaskAPIModel,
    private readonly commands: CommandRegistry,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-TaskAPI-log');
    this.source = new LogSource(ref, model, trans);
    this.search = new LogSearch(this.source.buffer);
    this.lines = new LogLines(this.source.buffer, this.search);
    this.lines.node.setAttribute(
      'aria-label',
      trans.__('Log of %1 %2', clean(ref.api, 100), shortId(ref.id))
    );
    const part = { view: this, trans };
    const layout = (this.layout = new PanelLayout());
    layout.addWidget(widgetOf(Head, part, 'jp-TaskAPI-log-head'));
    layout.addWidget(this.lines);
    layout.addWidget(widgetOf(Blank, part, 'jp-TaskAPI-log-blank'));
    layout.addWidget(widgetOf(Foot, part, 'jp-TaskAPI-log-foot'));
    this.source.changed.connect(this.onSource, this);
    this.lines.followChanged.connect(this.emit, this);
    this.title.label = `${clean(ref.api, 60)} ${shortId(ref.id)}`;
    this.title.caption = trans.__(
      'Log of job %1 of %2',
      ref.id,
      clean(ref.api, 200)
    );
    this.title.icon = listIcon;
    this.title.closable = true;
  }

  /** Something around the lines is to be drawn again. */
  readonly changed: ISignal<this, void> = new Signal<this, void>(this);

  readonly source: LogSource;
  readonly search: LogSearch;

  /** The number of the match that the user is at, from 0; null where there is none. */
  get match(): number | null {
    return this._match;
  }

  /** What is searched for. */
  set query(query: string) {
    this._origin = this.lines.first;
    this._match = null;
    this.search.query = query;
    this.lines.current = null;
    this.searchOn();
    this.emit();
  }

  /** Go so many matches on, from the last to the first. */
  goToMatch(by: number): void {
    const { count } = this.search;
    if (count) {
      const from = this._match ?? (by > 0 ? -1 : 0);
      this.showMatch((from + by + count) % count);
    }
  }

  /** Return what a toolbar shows. */
  toolbar(): [string, IToolbarButton][] {
    const { lines, source, trans } = this;
    return [
      [
        'follow',
        {
          icon: endIcon,
          label: trans.__('Follow'),
          caption: trans.__('Stay at the end of the log'),
          wordy: true,
          pressed: () => lines.follow,
          onClick: () => {
            lines.follow = !lines.follow;
          }
        }
      ],
      [
        'wrap',
        {
          icon: wrapIcon,
          label: trans.__('Wrap long lines'),
          pressed: () => this._wrap,
          onClick: () => {
            lines.wrap = this._wrap = !this._wrap;
            this.emit();
          }
        }
      ],
      [
        'numbers',
        {
          icon: numberingIcon,
          label: trans.__('Show line numbers'),
          pressed: () => this._numbers,
          onClick: () => {
            lines.numbers = this._numbers = !this._numbers;
            this.emit();
          }
        }
      ],
      [
        'copy',
        {
          icon: copyIcon,
          label: trans.__('Copy the selection, or the whole log'),
          enabled: () => source.buffer.rows > 0,
          onClick: () => this.copy()
        }
      ],
      [
        'download',
        {
          icon: downloadIcon,
          label: trans.__('Download the whole log'),
          enabled: () => source.buffer.rows > 0,
          onClick: () => void this.download()
        }
      ],
      [
        'stop',
        {
          icon: stopIcon,
          label: trans.__('Stop this job'),
          enabled: () => source.job !== null && !source.ended,
          onClick: () =>
            void this.commands.execute(CommandIDs.stop, { ...this.ref })
        }
      ]
    ];
  }

  dispose(): void {
    if (!this.isDisposed) {
      cancelAnimationFrame(this._slice);
      this.source.dispose();
      Signal.clearData(this);
      super.dispose();
    }
  }

  handleEvent(event: Event): void {
    if (event.type === 'keydown') {
      this.onKey(event as KeyboardEvent);
    } else if (event.type === 'copy') {
      this.onCopy(event as ClipboardEvent);
    }
  }

  protected onAfterAttach(_: Message): void {
    this.node.addEventListener('keydown', this);
    this.lines.node.addEventListener('copy', this);
    this.source.active = this.isVisible;
  }

  protected onBeforeDetach(_: Message): void {
    this.node.removeEventListener('keydown', this);
    this.lines.node.removeEventListener('copy', this);
    this.source.active = false;
  }

  protected onAfterShow(_: Message): void {
    this.source.active = true;
  }

  protected onBeforeHide(_: Message): void {
    this.source.active = false;
  }

  protected onActivateRequest(_: Message): void {
    this.lines.activate();
  }

  private onSource(): void {
    this.lines.refresh();
    this.searchOn();
    this.emit();
  }

  private onKey(event: KeyboardEvent): void {
    if ((event.ctrlKey || event.metaKey) && event.key === 'f') {
      const field = this.node.querySelector('input');
      field?.focus();
      field?.select();
      event.preventDefault();
      event.stopPropagation();
    }
  }

  private onCopy(event: ClipboardEvent): void {
    const text = this.lines.selected(COPIED);
    if (text) {
      event.preventDefault();
      if (typeof text === 'number') {
        this.refuseToCopy(text);
      } else {
        event.clipboardData?.setData('text/plain', text);
      }
    }
  }

  private copy(): void {
    const { buffer } = this.source;
    const text =
      this.lines.selected(COPIED) ||
      (buffer.size > COPIED
        ? buffer.size
        : buffer.text(0, 0, buffer.rows - 1, Infinity));
    if (typeof text === 'number') {
      this.refuseToCopy(text);
    } else {
      Clipboard.copyToSystem(text);
    }
  }

  private refuseToCopy(bytes: number): void {
    Notification.warning(
      this.trans.__(
        'These are %1, too much for the clipboard: download the log instead.',
        size(bytes)
      )
    );
  }

  private async download(): Promise<void> {
    try {
      const { api, id } = this.ref;
      download(await this.source.whole(), `${api}-${id}.log`);
    } catch (error) {
      Notification.error(
        error instanceof Error ? error.message : String(error)
      );
    }
  }

  /** Search what was not searched yet, a slice each frame. */
  private searchOn(): void {
    if (this._slice || this.search.done) {
      return;
    }
    this._slice = requestAnimationFrame(() => {
      this._slice = 0;
      this.search.step(SLICE);
      this.showFirst();
      this.emit();
      this.searchOn();
    });
  }

  /** Go to the first match from where the user was, once it was found. */
  private showFirst(): void {
    const { search } = this;
    if (this._origin === null || !search.count) {
      return;
    }
    const first = search.from(this._origin);
    if (first < search.count || search.done) {
      this._origin = null;
      this.showMatch(first < search.count ? first : 0);
    }
  }

  private showMatch(index: number): void {
    this._match = index;
    this._origin = null;
    this.lines.reveal(this.search.match(index));
    this.emit();
  }

  private emit(): void {
    (this.changed as Signal<this, void>).emit();
  }

  private lines: LogLines;
  private _match: number | null = null;
  private _origin: number | null = null; // the row from which on the first match is looked for
  private _slice = 0;
  private _wrap = false;
  private _numbers = false;
}

/** Return a log's view with its toolbar, as a tab. */
export function logTab(view: LogView): MainAreaWidget<LogView> {
  const tab = new MainAreaWidget({ content: view });
  tab.id = `taskapi-log-${view.ref.environment}-${view.ref.id}`;
  tab.toolbar.addClass('jp-TaskAPI-log-toolbar');
  for (const [name, button] of view.toolbar()) {
    if (name === 'copy') {
      tab.toolbar.addItem('spacer', Toolbar.createSpacerItem());
    }
    tab.toolbar.addItem(name, buttonOf(view, button));
  }
  return tab;
}
