import type { IEditorServices } from '@jupyterlab/codeeditor';
import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import React from 'react';

import type { API, Schedule, ScheduleRequest } from '../api/contract';
import { nameOf } from '../api/contract';
import { Parameters } from '../sidebar/parameters';
import type { Config } from '../sidebar/submit';
import { defaultsOf, isExact, JSONEditor, readConfig } from '../sidebar/submit';
import { pretty, useSignal } from '../ui/components';
import type { Wrong } from '../ui/fields';
import { fieldsOf } from '../ui/fields';
import { clean } from '../ui/format';
import { StayingBody, StayingDialog, useFocus } from '../ui/staying';
import { Count, Name, Rules, When } from './fields';
import type { IScheduleForm } from './form';
import {
  changesOf,
  overridesOf,
  scheduleFieldIn,
  scheduleFormFor,
  scheduleRequestOf,
  wrongInSchedule
} from './form';
import type { AskPreview } from './preview';
import { usePreview } from './preview';
import { NAME } from './words';

export interface IScheduleOptions {
  /** The APIs to choose from. */
  apis: readonly API[];
  /** The name of the one to begin with. */
  api?: string;
  /** What its jobs are called with, to begin with. */
  config?: Config;
  /** The schedule that is changed; without one, one is made. */
  schedule?: Schedule;
  editors: IEditorServices;
  trans: TranslationBundle;
  ask: AskPreview;
  /** Make or change it; throws what the server says, and the dialog stays. */
  save: (request: Partial<ScheduleRequest>) => Promise<void>;
}

/** Ask when jobs are to run, and have it written; return whether it was. */
export async function askToSchedule(
  options: IScheduleOptions
): Promise<boolean> {
  const { schedule, trans } = options;
  const title = schedule
    ? trans.__('Edit schedule %1', clean(schedule.name, NAME))
    : trans.__('New schedule');
  const dialog = new StayingDialog(title, new ScheduleBody(options));
  const { button } = await dialog.launch();
  return button.accept;
}

class ScheduleBody extends StayingBody {
  constructor(readonly options: IScheduleOptions) {
    super();
    const { apis, schedule } = options;
    this.form = scheduleFormFor(schedule);
    this.api = schedule?.api ?? options.api ?? (apis[0] ? nameOf(apis[0]) : '');
    this.addClass('jp-TaskAPI-Run');
    this.begin();
  }

  form: IScheduleForm;

  /** The name of the API whose jobs run. */
  api: string;

  /** The config as it is typed. */
  config = '';

  get label(): string {
    const { schedule, trans } = this.options;
    return schedule ? trans.__('Save') : trans.__('Create');
  }

  /** The API, as it is deployed now. */
  get deployed(): API | undefined {
    return this.options.apis.find(one => nameOf(one) === this.api);
  }

  /** Put into the config what an API's jobs are called with. */
  begin(): void {
    const { schedule, config } = this.options;
    const own = schedule ? schedule.config : config;
    this._begun = pretty({ ...this.defaults, ...own });
    this.config = this._begun;
  }

  check(): Wrong {
    const { trans } = this.options;
    const read = readConfig(this.config, trans);
    return {
      ...wrongInSchedule(this.form, trans),
      ...('error' in read ? { config: read.error } : {}),
      ...(this.api ? {} : { api: trans.__('Deploy an API first.') })
    };
  }

  async act(): Promise<void> {
    const { schedule, save, trans } = this.options;
    const { form } = this;
    const read = readConfig(this.config, trans);
    const typed = 'config' in read ? read.config : {};
    const own = schedule?.config ?? {};
    const config = overridesOf(typed, this.defaults, own);
    if (schedule) {
      const isSame = this.config === this._begun;
      await save({
        ...changesOf(form, scheduleFormFor(schedule)),
        ...(isSame ? {} : { config })
      });
    } else {
      await save({ ...scheduleRequestOf(form), api: this.api, config });
    }
  }

  fieldIn(message: string): string {
    return scheduleFieldIn(message);
  }

  protected render(): JSX.Element {
    return <ScheduleForm body={this} />;
  }

  private get defaults(): Config {
    return this.deployed ? defaultsOf(this.deployed) : {};
  }

  private _begun = '';
}

function ScheduleForm({ body }: { body: ScheduleBody }): JSX.Element {
  useSignal(body.changed);
  const { apis, schedule, editors, trans, ask } = body.options;
  const { wrong, busy, api, deployed } = body;
  const [form, setForm] = React.useState(body.form);
  const id = React.useId();
  const known = usePreview(form, ask);
  useFocus(body);
  const fields = fieldsOf(
    id,
    name => wrong[name] ?? (name === known.field ? known.wrong : undefined)
  );
  const { field, said, label } = fields;
  const change = (part: Partial<IScheduleForm>) => {
    body.form = { ...body.form, ...part };
    setForm(body.form); // at once: the browser keeps the cursor where it is
  };
  const parts = { form, change, fields, trans };
  const names = apis.map(nameOf);
  return (
    <>
      <div className="jp-TaskAPI-Run-fields">
        {label('api', trans.__('API'))}
        <HTMLSelect
          {...field('api')}
          value={api}
          disabled={!!schedule}
          onChange={event => {
            body.api = event.currentTarget.value;
            body.begin();
            body.draw();
          }}
          options={names.includes(api) ? names : [api, ...names]}
        />
        {said(
          'api',
          !deployed && !!api && trans.__('It is not deployed at present.')
        )}
        <Name
          {...parts}
          text={trans.__('Name')}
          api={api}
          isFixed={!!schedule}
        />
        <When {...parts} known={known} />
      </div>
      <div className="jp-TaskAPI-Label">{trans.__('Config (JSON)')}</div>
      <JSONEditor
        key={api}
        value={body.config}
        label={trans.__('Config of its jobs, as JSON')}
        invalid={!!wrong.config}
        describedBy={`${id}-config-said`}
        editors={editors}
        focused={false}
        onChange={value => {
          body.config = value;
        }}
      />
      {said(
        'config',
        !isExact(schedule?.config ?? {}) &&
          trans.__(
            'A browser rounds whole numbers beyond 2^53: the config stays as it is unless you change it.'
          )
      )}
      {deployed && <Parameters api={deployed} trans={trans} />}
      <div className="jp-TaskAPI-Run-fields">
        <Count
          {...parts}
          name="timeout"
          text={trans.__('Timeout (s)')}
          placeholder={trans.__('none')}
        />
        <Rules {...parts} />
      </div>
      <div role="status">
        {wrong[''] && <p className="jp-TaskAPI-Error">{wrong['']}</p>}
        {busy && <p className="jp-TaskAPI-Note">{trans.__('Saving…')}</p>}
      </div>
    </>
  );
}
