import type { IEditorServices } from '@jupyterlab/codeeditor';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, SidePanel } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import type { IDisposable } from '@lumino/disposable';
import type { Message } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import type { AccordionPanel, Widget } from '@lumino/widgets';
import React from 'react';

import type { IJobRef, IScheduleRef } from '../api/client';
import type { TaskAPIModel } from '../model/model';
import { WidgetIDs } from '../tokens';
import { APIList } from './apis';
import { Details } from './details';
import { Header } from './header';
import { taskAPIIcon } from '../ui/icon';
import { JobList } from './joblist';
import { ScheduleList } from './schedules';
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

/** The sidebar: environments, their APIs and schedules, their jobs, and the job that is chosen. */
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
    const section = (label: string, element: JSX.Element) => {
      const widget = ReactWidget.create(element);
      widget.addClass('jp-TaskAPI-Section');
      widget.title.label = label;
      return widget;
    };
    this.apis = section(
      trans.__('Task APIs'),
      <APIList {...options} state={state} />
    );
    this.schedules = section(
      trans.__('Schedules'),
      <ScheduleList {...options} state={state} />
    );
    this.schedules.hide(); // until there is one
    this.jobs = section(
      trans.__('Jobs'),
      <JobList {...options} state={state} />
    );
    this.job = section(trans.__('Job'), <Details {...options} />);
    [this.apis, this.jobs, this.job].forEach(one => this.addWidget(one));
    this.share();
    this.collapse(this.job);
    model.changed.connect(this.onModel, this);
    state.changed.connect(this.onState, this);
    this.accordion.expansionToggled.connect(this.onToggled, this);
  }

  /** What a person chose to see. */
  readonly state = new ViewState();

  /**
   * Open and close the sections as the user left them.
   *
   * Lab has done so by their numbers: those may have been others, with or without schedules.
   */
  restoreSections(): void {
    const { closed } = this.state;
    if (closed) {
      this._restoring = true;
      for (const [name, one] of this.named) {
        if (closed.includes(name)) {
          this.collapse(one);
        } else if (name !== 'schedules') {
          this.expand(one);
        }
      }
      if (this._shown === null) {
        this.collapse(this.job);
      } else {
        this.expand(this.job);
      }
      this._restoring = false;
      this.share();
    }
  }

  /** Show a job's details. */
  showJob({ environment, id }: IJobRef): void {
    this.model.environment = environment;
    void this.model.current.refreshJob(id);
    this.model.select(id);
  }

  /** Show an API's form. */
  openSubmit(environment: string, api?: string, draft?: IDraft): void {
    this.model.environment = environment;
    this.expand(this.apis);
    this.state.set({
      openAPI: api ?? this.state.openAPI,
      draft: draft ?? null
    });
  }

  /** Show a schedule. */
  showSchedule({ environment, schedule }: IScheduleRef): void {
    this.model.environment = environment;
    this.onModel();
    this.expand(this.schedules);
    this.share();
    requestAnimationFrame(() =>
      this.schedules.node
        .querySelector(`[data-schedule="${CSS.escape(schedule)}"]`)
        ?.scrollIntoView({ block: 'nearest' })
    );
  }

  /** List the jobs of a schedule alone; those of all, where it does so already. */
  showJobsOf({ environment, schedule }: IScheduleRef): void {
    this.model.environment = environment;
    this.expand(this.jobs);
    this.state.set({
      schedule: this.state.schedule === schedule ? '' : schedule
    });
  }

  dispose(): void {
    Signal.disconnectBetween(this.model, this);
    this.schedules.dispose(); // which may be in no panel
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

  /** The sections that stay as the user leaves them. */
  private get named(): [string, Widget][] {
    return [
      ['apis', this.apis],
      ['schedules', this.schedules],
      ['jobs', this.jobs]
    ];
  }

  private expand(section: Widget): void {
    this.accordion.expand(this.accordion.widgets.indexOf(section));
  }

  private collapse(section: Widget): void {
    this.accordion.collapse(this.accordion.widgets.indexOf(section));
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
    this.offerSchedules();
    const id = this.model.selected?.job_id ?? null;
    if (id !== this._shown) {
      const opened = id !== null && this._shown === null;
      this._shown = id;
      if (id === null) {
        this.collapse(this.job);
      } else if (opened) {
        this.expand(this.job);
        this.share();
      }
    }
  }

  /** Have a section of schedules where the environment keeps some; it opens once there is one. */
  private offerSchedules(): void {
    const { environment, kept, all } = this.model.currentSchedules;
    if (!kept === !!this.schedules.parent) {
      if (kept) {
        this.insertWidget(1, this.schedules);
      } else {
        this.schedules.parent = null;
      }
      this.share();
    }
    const { _scheduled: before } = this;
    const count = kept ? all.length : 0;
    this._scheduled = { environment, count };
    if (count !== before.count || environment !== before.environment) {
      const isFirst = !before.count || environment !== before.environment;
      if (count && isFirst && !this.state.closed?.includes('schedules')) {
        this.expand(this.schedules);
      }
      this.share();
    }
    if (environment !== before.environment && this.state.schedule) {
      this.state.set({ schedule: '' });
    }
  }

  /** Remember which sections are closed; that of schedules is anyway, while there are none. */
  private onToggled(): void {
    if (this._restoring) {
      return;
    }
    const { closed } = this.state;
    const isKnown = this.schedules.parent && this._scheduled.count > 0;
    this.state.set({
      closed: this.named
        .filter(([name, one]) =>
          name === 'schedules' && !isKnown
            ? closed?.includes(name)
            : one.isHidden
        )
        .map(([name]) => name)
    });
  }

  /** Give room to what was just opened. */
  private onState(): void {
    if (this.state.openAPI !== this._open) {
      this._open = this.state.openAPI;
      this.share();
    }
  }

  /** The APIs and the schedules take what they need, the jobs and the one that is chosen the rest. */
  private share(): void {
    const height = this.content.node.clientHeight || 700;
    const count = this.model.current.apis.length;
    const most = (this._open || !count ? 0.4 : 0.25) * height;
    const needed = count ? 28 * count + 12 : 220; // or the hint how to deploy one
    const apis = this._open ? most : Math.min(Math.max(needed, 60), most);
    const { all } = this.model.currentSchedules;
    const schedules =
      this.schedules.parent && !this.schedules.isHidden
        ? Math.min(90 * all.length + 90, 0.3 * height)
        : 0;
    const rest = height - apis - schedules;
    const [jobs, job] = this._shown ? [0.45 * rest, 0.55 * rest] : [rest, 0];
    this.accordion.setRelativeSizes(
      this.schedules.parent ? [apis, schedules, jobs, job] : [apis, jobs, job]
    );
  }

  private apis: Widget;
  private schedules: Widget;
  private jobs: Widget;
  private job: Widget;
  private model: TaskAPIModel;
  private trans: TranslationBundle;
  private _watching: IDisposable | null = null;
  private _shown: string | null = null;
  private _open: string | null = null;
  private _count: number | null = null; // APIs; null before they were read
  private _scheduled = { environment: '', count: 0 };
  private _restoring = false;
}
