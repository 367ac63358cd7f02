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
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';
import { PanelLayout, Widget } from '@lumino/widgets';

import type { IJobRef } from '../api/client';
import { clean, shortId, size } from '../ui/format';
import type { TaskAPIModel } from '../model/model';
import { CommandIDs } from '../tokens';
import { download } from '../ui/components';
import { LogLines } from './lines/lines';
import { LogModel } from './model';
import { Blank, buttonOf, Foot, Head, widgetOf } from './parts';
import type { IToolbarButton } from './parts';

/** Bytes that are copied to the clipboard, at most. */
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

const pinIcon = new LabIcon({
  name: 'taskapi-jupyter:pin',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
    <path class="jp-icon3 jp-icon-selectable" fill="#616161"
      d="M16 9V4h1a1 1 0 0 0 0-2H7a1 1 0 0 0 0 2h1v5a3 3 0 0 1-3 3v2h5.97v7l1 1 1-1v-7H19v-2a3 3 0 0 1-3-3z"/>
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

/** The log of a job: its lines; above them the job and a search, below them why it failed and how long the log is. */
export class LogView extends Widget {
  constructor(
    readonly ref: IJobRef,
    model: TaskAPIModel,
    private readonly commands: CommandRegistry,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-TaskAPI-log');
    this.model = new LogModel(ref, model, trans);
    const { search, source } = this.model;
    this.lines = new LogLines(source.buffer, search);
    this.lines.node.setAttribute(
      'aria-label',
      trans.__('Log of %1 %2', clean(ref.api, 100), shortId(ref.id))
    );
    const layout = (this.layout = new PanelLayout());
    layout.addWidget(widgetOf(Head, this.model, 'jp-TaskAPI-log-head'));
    layout.addWidget(this.lines);
    layout.addWidget(widgetOf(Blank, this.model, 'jp-TaskAPI-log-blank'));
    layout.addWidget(widgetOf(Foot, this.model, 'jp-TaskAPI-log-foot'));
    this.model.origin = () => this.lines.first;
    this.model.matchChanged.connect((_, match) => this.lines.reveal(match));
    source.changed.connect(() => this.lines.refresh());
    this.lines.followChanged.connect(() => this.model.emit());
    this.title.label = `${clean(ref.api, 60)} ${shortId(ref.id)}`;
    this.title.caption = trans.__(
      'Log of job %1 of %2',
      ref.id,
      clean(ref.api, 200)
    );
    this.title.icon = listIcon;
    this.title.closable = true;
  }

  readonly model: LogModel;

  /** Whether this log keeps its tab: else the next log that is opened takes its place. */
  get pinned(): boolean {
    return this.model.pinned;
  }
  set pinned(pinned: boolean) {
    this.model.pinned = pinned;
    this.model.emit();
    (this.pinnedChanged as Signal<this, void>).emit();
  }

  readonly pinnedChanged: ISignal<this, void> = new Signal<this, void>(this);

  /** Return what a toolbar shows. */
  toolbar(): [string, IToolbarButton][] {
    const { lines, model, trans } = this;
    const { source } = model;
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
        'pin',
        {
          icon: pinIcon,
          label: trans.__('Keep this tab'),
          caption: trans.__(
            'Keep this tab when the log of another job is shown'
          ),
          pressed: () => model.pinned,
          onClick: () => {
            this.pinned = !model.pinned;
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
            model.emit();
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
            model.emit();
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
      this.model.dispose();
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
    this.model.source.active = this.isVisible;
  }

  protected onBeforeDetach(_: Message): void {
    this.node.removeEventListener('keydown', this);
    this.lines.node.removeEventListener('copy', this);
    this.model.source.active = false;
  }

  protected onAfterShow(_: Message): void {
    this.model.source.active = true;
  }

  protected onBeforeHide(_: Message): void {
    this.model.source.active = false;
  }

  protected onActivateRequest(_: Message): void {
    this.lines.activate();
  }

  private onKey(event: KeyboardEvent): void {
    if ((event.ctrlKey || event.metaKey) && event.key === 'f') {
      const field = this.node.querySelector('input');
      field?.focus();
      field?.select();
      event.preventDefault();
      event.stopPropagation();
    } else if (
      event.key === 'Escape' &&
      event.target instanceof HTMLInputElement
    ) {
      this.lines.activate(); // out of the search
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
    const { buffer } = this.model.source;
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
        '%1 is too large for the clipboard: download the log instead.',
        size(bytes)
      )
    );
  }

  private async download(): Promise<void> {
    try {
      const { api, id } = this.ref;
      download(await this.model.source.whole(), `${api}-${id}.log`);
    } catch (error) {
      Notification.error(
        error instanceof Error ? error.message : String(error)
      );
    }
  }

  private lines: LogLines;
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
    tab.toolbar.addItem(name, buttonOf(view.model, button));
  }
  return tab;
}
