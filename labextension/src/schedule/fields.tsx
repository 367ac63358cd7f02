import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import React from 'react';

import type { IFields } from '../ui/fields';
import type { IScheduleForm, Kind } from './form';
import { CATCH_UPS, EXAMPLES, KINDS, OVERLAPS, UNITS } from './form';
import type { IPreviewed } from './preview';
import { Preview } from './preview';
import { zones } from './words';

interface IPartProps {
  form: IScheduleForm;
  change: (part: Partial<IScheduleForm>) => void;
  fields: IFields;
  trans: TranslationBundle;
}

/** When a schedule fires: every so often, once, or as cron says; and in which time zone. */
export function When({
  form,
  change,
  fields,
  known,
  trans
}: IPartProps & { known: IPreviewed }): JSX.Element {
  const { field, said, label } = fields;
  const { id } = field('when');
  const words: { [kind in Kind]: string } = {
    every: trans.__('Every'),
    at: trans.__('At'),
    cron: trans.__('Cron')
  };
  const units: { [unit: string]: string } = {
    s: trans.__('seconds'),
    m: trans.__('minutes'),
    h: trans.__('hours'),
    d: trans.__('days')
  };
  const [all, choices] = React.useMemo(() => {
    const all = zones(form.timezone);
    return [all, new Set(all)];
  }, [form.timezone]);
  const server = known.preview && !form.timezone ? known.preview.timezone : '';
  return (
    <>
      <span id={`${id}-label`}>{trans.__('When')}</span>
      <div
        className="jp-TaskAPI-Kinds"
        role="radiogroup"
        aria-labelledby={`${id}-label`}
      >
        {KINDS.map(kind => (
          <label key={kind}>
            <input
              type="radio"
              name={`${id}-kind`}
              checked={form.kind === kind}
              onChange={() => change({ kind })}
            />
            {words[kind]}
          </label>
        ))}
      </div>
      <div className="jp-TaskAPI-When">
        {form.kind === 'every' && (
          <>
            <input
              {...field('when')}
              className="jp-mod-styled"
              inputMode="numeric"
              aria-label={trans.__('How many')}
              value={form.every}
              onChange={event => change({ every: event.currentTarget.value })}
            />
            <HTMLSelect
              aria-label={trans.__('Unit')}
              value={form.unit}
              onChange={event => change({ unit: event.currentTarget.value })}
              options={UNITS.map(value => ({ value, label: units[value] }))}
            />
          </>
        )}
        {form.kind === 'at' && (
          <input
            {...field('when')}
            className="jp-mod-styled"
            type="datetime-local"
            aria-label={trans.__('Date and time')}
            value={form.at}
            onChange={event => change({ at: event.currentTarget.value })}
          />
        )}
        {form.kind === 'cron' && (
          <>
            <input
              {...field('when')}
              className="jp-mod-styled jp-TaskAPI-Cron"
              aria-label={trans.__('Cron expression')}
              title={trans.__(
                'Minute, hour, day of the month, month, day of the week'
              )}
              list={`${id}-examples`}
              autoComplete="off"
              spellCheck={false}
              value={form.cron}
              onChange={event => change({ cron: event.currentTarget.value })}
            />
            <datalist id={`${id}-examples`}>
              {EXAMPLES.map(one => (
                <option key={one} value={one} />
              ))}
            </datalist>
          </>
        )}
      </div>
      {said('when')}
      {label('timezone', trans.__('Time zone'))}
      <HTMLSelect
        {...field('timezone')}
        value={choices.has(form.timezone) ? form.timezone : ''}
        onChange={event => change({ timezone: event.currentTarget.value })}
        options={[
          {
            value: '',
            label: server
              ? trans.__('the server’s (%1)', server)
              : trans.__('the server’s')
          },
          ...all.map(value => ({ value, label: value }))
        ]}
      />
      {said('timezone')}
      <Preview known={known} trans={trans} />
    </>
  );
}

/** What becomes of firings that come too early or too late, and when they end. */
export function Rules({
  form,
  change,
  fields,
  trans
}: IPartProps): JSX.Element {
  const { field, said, label } = fields;
  const overlaps: { [value: string]: string } = {
    skip: trans.__('skip the new run'),
    queue: trans.__('wait until it has ended'),
    stop: trans.__('stop it first'),
    allow: trans.__('run both')
  };
  const catchUps: { [value: string]: string } = {
    last: trans.__('make up for the last one'),
    none: trans.__('skip them')
  };
  const isDate = /^(\d{4}-\d\d-\d\d)?$/.test(form.until);
  return (
    <>
      {label('overlap', trans.__('If a run is on'))}
      <HTMLSelect
        {...field('overlap')}
        value={form.overlap}
        onChange={event => change({ overlap: event.currentTarget.value })}
        options={OVERLAPS.map(value => ({ value, label: overlaps[value] }))}
      />
      {said('overlap')}
      {label('catchUp', trans.__('Missed runs'))}
      <HTMLSelect
        {...field('catchUp')}
        title={trans.__('While the machine was off or asleep')}
        value={form.catchUp}
        onChange={event => change({ catchUp: event.currentTarget.value })}
        options={CATCH_UPS.map(value => ({ value, label: catchUps[value] }))}
      />
      {said('catchUp')}
      {label('until', trans.__('Until'))}
      <input
        {...field('until')}
        className="jp-mod-styled"
        type={isDate ? 'date' : 'text'}
        title={trans.__('The last day on which it runs')}
        value={form.until}
        onChange={event => change({ until: event.currentTarget.value })}
      />
      {said('until')}
      <Count
        name="retries"
        text={trans.__('Retries')}
        placeholder={trans.__('none')}
        {...{ form, change, fields, trans }}
      />
    </>
  );
}

/** A field for a whole number, with its label. */
export function Count({
  name,
  text,
  placeholder,
  form,
  change,
  fields: { field, said, label }
}: IPartProps & {
  name: 'timeout' | 'retries';
  text: string;
  placeholder: string;
}): JSX.Element {
  return (
    <>
      {label(name, text)}
      <input
        {...field(name)}
        className="jp-mod-styled"
        inputMode="numeric"
        placeholder={placeholder}
        value={form[name]}
        onChange={event => change({ [name]: event.currentTarget.value })}
      />
      {said(name)}
    </>
  );
}

/** The name of a schedule; without one, it is called as its API. */
export function Name({
  form,
  change,
  fields: { field, said, label },
  text,
  api,
  isFixed = false
}: IPartProps & {
  text: string;
  api: string;
  /** Whether it can't be changed. */
  isFixed?: boolean;
}): JSX.Element {
  return (
    <>
      {label('name', text)}
      <input
        {...field('name')}
        className="jp-mod-styled"
        spellCheck={false}
        disabled={isFixed}
        placeholder={api}
        value={form.name}
        onChange={event => change({ name: event.currentTarget.value })}
      />
      {said('name')}
    </>
  );
}
