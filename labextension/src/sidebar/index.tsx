import type { IEditorServices } from '@jupyterlab/codeeditor';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, SidePanel } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { IDisposable } from '@lumino/disposable';
import type { Message } from '@lumino/messaging';
import type { AccordionPanel } from '@lumino/widgets';
import React from 'react';

import type { IJobRef } from '../api/client';
import type { TaskAPIModel } from '../model/model';
import { WidgetIDs } from '../tokens';
import { APIList } from './apis';
import { Details } from './details';
import { Header } from './header';
import { taskAPIIcon } from '../ui/icon';
import { JobList } from './joblist';
import type { IDraft } from './state';
import { ViewState } from './state';

export interface ISidebarOptions {
  model: TaskAPIModel;
  commands: CommandRegistry;
  editors: IEditorServices;
  rendermime: IRenderMimeRegistry;
  translator: ITranslator;
  trans: TranslationBundle;
}

/** The sidebar: environments, their APIs, their jobs, and the job that is chosen. */
export class Sidebar extends SidePanel {
  constructor(options: ISidebarOptions) {
    super({ translator: options.translator });
    const { model, trans } = options;
    const state = this.state;
    this.model = model;
    this.id = WidgetIDs.sidebar;
    this.addClass('jp-TaskAPI');
    this.title.icon = taskAPIIcon;
    this.title.className = 'jp-TaskAPI-Tab';
    this.trans = trans;
    this.count();
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Task API jobs'));
    this.header.addWidget(ReactWidget.create(<Header {...options} />));
    const sections: [string, JSX.Element][] = [
      [trans.__('Task APIs'), <APIList {...options} state={state} />],
      [trans.__('Jobs'), <JobList {...options} state={state} />],
      [trans.__('Job'), <Details {...options} />]
    ];
    for (const [label, element] of sections) {
      const widget = ReactWidget.create(element);
      widget.addClass('jp-TaskAPI-Section');
      widget.title.label = label;
      this.addWidget(widget);
    }
    this.share();
    this.accordion.collapse(DETAILS);
    model.changed.connect(this.onModel, this);
    state.changed.connect(this.onState, this);
  }

  /** What a person chose to see. */
  readonly state = new ViewState();

  /** Show a job's details. */
  showJob({ environment, id }: IJobRef): void {
    this.model.environment = environment;
    void this.model.current.refreshJob(id);
    this.model.select(id);
  }

  /** Show an API's form. */
  openSubmit(environment: string, api?: string, draft?: IDraft): void {
    this.model.environment = environment;
    this.accordion.expand(0);
    this.state.set({
      openAPI: api ?? this.state.openAPI,
      draft: draft ?? null
    });
  }

  dispose(): void {
    this._watching?.dispose();
    super.dispose();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.watch();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.watch();
  }

  protected onBeforeHide(message: Message): void {
    this.watch(false);
    super.onBeforeHide(message);
  }

  protected onBeforeDetach(message: Message): void {
    this.watch(false);
    super.onBeforeDetach(message);
  }

  private get accordion(): AccordionPanel {
    return this.content as AccordionPanel;
  }

  /** Have the model poll progress while this is on show. */
  private watch(seen = this.isVisible): void {
    if (seen) {
      this._watching ??= this.model.watch();
    } else {
      this._watching?.dispose();
      this._watching = null;
    }
  }

  /** Say on the tab how many jobs of this machine are in progress. */
  private count(): void {
    const { trans } = this;
    const { local } = this.model;
    const all = local.count('running') + local.count('pending');
    const said = all
      ? trans.__('Task API jobs (%1 in progress)', all)
      : trans.__('Task API jobs');
    if (said !== this.title.caption) {
      this.title.caption = said;
      this.title.dataset = all ? { jobs: all > 99 ? '99+' : String(all) } : {};
    }
  }

  /** Open the details when a job is chosen, close them when none is. */
  private onModel(): void {
    this.count();
    const { apis, loaded } = this.model.current;
    if (loaded && (this._count === null || (!this._count && apis.length))) {
      this.share();
    }
    this._count = loaded ? apis.length : null;
    const id = this.model.selected?.job_id ?? null;
    if (id !== this._shown) {
      const opened = id !== null && this._shown === null;
      this._shown = id;
      if (id === null) {
        this.accordion.collapse(DETAILS);
      } else if (opened) {
        this.accordion.expand(DETAILS);
        this.share();
      }
    }
  }

  /** Give room to what was just opened. */
  private onState(): void {
    if (this.state.openAPI !== this._open) {
      this._open = this.state.openAPI;
      this.share();
    }
  }

  /** The APIs take what they need, the jobs and the one that is chosen the rest. */
  private share(): void {
    const height = this.content.node.clientHeight || 700;
    const count = this.model.current.apis.length;
    const most = (this._open || !count ? 0.4 : 0.25) * height;
    const needed = count ? 28 * count + 12 : 220; // or the hint how to deploy one
    const apis = this._open ? most : Math.min(Math.max(needed, 60), most);
    const rest = height - apis;
    this.accordion.setRelativeSizes(
      this._shown ? [apis, 0.45 * rest, 0.55 * rest] : [apis, rest, 0]
    );
  }

  private model: TaskAPIModel;
  private trans: TranslationBundle;
  private _watching: IDisposable | null = null;
  private _shown: string | null = null;
  private _open: string | null = null;
  private _count: number | null = null; // APIs; null before they were read
}

const DETAILS = 2;
