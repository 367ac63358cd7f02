import { ReactWidget } from '@jupyterlab/ui-components';
import type { Event } from '@jupyterlab/services';
import type { IStream } from '@lumino/signaling';
import type { Message } from '@lumino/messaging';
import { SplitPanel } from '@lumino/widgets';
import React from 'react';

import type { Filter } from '../model/jobs';
import { useSignal } from '../ui/components';
import { clean } from '../ui/format';
import { taskAPIIcon } from '../ui/icon';
import { Bar } from './bar';
import { Compare } from './compare';
import type { IPageProps } from './props';
import type { IScope } from './source';
import { JobSource } from './source';
import type { Choice } from './state';
import { PageState } from './state';
import { Table } from './table';

/** Milliseconds without another letter until the server is asked to search. */
const TYPING = 300;

/** Characters of a search that the server takes. */
const LONGEST = 500;

export type IPageOptions = Omit<IPageProps, 'source' | 'state'> & {
  events: IStream<unknown, Event.Emission>;
  choice: Choice;
};

/** A page of jobs: all of an environment, or those of a group; below them, chosen ones compared. */
export class JobsPage extends SplitPanel {
  constructor(
    readonly scope: IScope,
    { events, choice, ...options }: IPageOptions
  ) {
    super({ orientation: 'vertical', spacing: 4 });
    const { model, trans } = options;
    this.source = new JobSource(scope, model.client, events);
    this.state = new PageState(this.source, choice, trans);
    const props = { ...options, source: this.source, state: this.state };
    this.addClass('jp-TaskAPI');
    this.addClass('jp-TaskAPI-Page');
    const jobs = ReactWidget.create(<Jobs {...props} />);
    jobs.addClass('jp-TaskAPI-Page-jobs');
    this.addWidget(jobs);
    const compare = ReactWidget.create(<Compare {...props} />);
    compare.addClass('jp-TaskAPI-Page-compare');
    compare.hide();
    this.addWidget(compare);
    this.state.changed.connect(() => {
      if (compare.isHidden === this.state.comparing) {
        compare.setHidden(!this.state.comparing);
        // Once it has been laid out: until then it has no size to change.
        requestAnimationFrame(() => this.setRelativeSizes([45, 55]));
      }
    });
    const entitle = () => {
      const { group } = this.source;
      const name = group?.name ?? (scope.group ? clean(scope.group, 40) : '');
      const { environment } = scope;
      this.title.label = scope.group
        ? trans.__('Jobs of %1', clean(name, 40))
        : environment === 'local'
          ? trans.__('Jobs')
          : trans.__('Jobs in %1', clean(environment, 40));
    };
    this.title.icon = taskAPIIcon;
    this.title.closable = true;
    this.title.caption = trans.__('Jobs: a table, comparisons and charts');
    this.source.changed.connect(entitle);
    entitle();
  }

  readonly source: JobSource;
  readonly state: PageState;

  dispose(): void {
    this.source.dispose();
    super.dispose();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.source.active = true;
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.source.active = this.isVisible;
  }

  protected onBeforeHide(message: Message): void {
    this.source.active = false;
    super.onBeforeHide(message);
  }

  protected onBeforeDetach(message: Message): void {
    this.source.active = false;
    super.onBeforeDetach(message);
  }

  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    const row = this.node.querySelector<HTMLElement>(
      '[data-job-id][tabindex="0"], input'
    );
    row?.focus();
  }
}

function Jobs(props: IPageProps): JSX.Element {
  const { model, source, state, trans } = props;
  useSignal(source.changed);
  useSignal(state.changed);
  useSignal(model.changed);
  const { search, status, api } = state;
  const { more } = source;

  // What was not read may match, too: the server looks.
  React.useEffect(() => {
    if (!(more && (search.trim() || status || api))) {
      state.set({ found: new Set() });
      return;
    }
    let current = true;
    const filter: Filter = {
      api: api || undefined,
      status: status ? [status] : undefined,
      search: search.trim().slice(0, LONGEST) || undefined
    };
    const timer = setTimeout(
      () =>
        void source
          .find(filter, () => current)
          .then(found => {
            if (current) {
              state.set({ found: filter.search ? found : new Set() });
            }
          }),
      TYPING
    );
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [source, state, more, search, status, api]);

  return (
    <>
      <Bar {...props} />
      <div role="status">
        {source.error && (
          <p className="jp-TaskAPI-Banner">
            <span>{source.error.message}</span>
          </p>
        )}
      </div>
      <Table {...props} />
      {source.loaded && state.shown.length === 0 && (
        <p className="jp-TaskAPI-Empty">
          {source.size
            ? trans.__('No job matches.')
            : trans.__('There are no jobs yet. Submit one from a notebook:')}
          {!source.size && <code>%taskapi submit NAME</code>}
        </p>
      )}
    </>
  );
}
