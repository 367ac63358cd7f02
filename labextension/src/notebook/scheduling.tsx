/** The part of a notebook's dialog that has it run again and again. */
import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import { Name, Rules, When } from '../schedule/fields';
import type { IScheduleForm } from '../schedule/form';
import type { AskPreview } from '../schedule/preview';
import { usePreview } from '../schedule/preview';
import { fieldsOf } from '../ui/fields';

/** Whether it runs now or again and again; the rest of the form is the same for both. */
export function Tabs({
  isScheduled,
  choose,
  trans,
  children
}: {
  isScheduled: boolean;
  choose: (isScheduled: boolean) => void;
  trans: TranslationBundle;
  children: React.ReactNode;
}): JSX.Element {
  const id = React.useId();
  const tabs = React.useRef<HTMLDivElement>(null);
  return (
    <>
      <div
        ref={tabs}
        className="jp-TaskAPI-Tabs"
        role="tablist"
        aria-label={trans.__('When it runs')}
        onKeyDown={event => {
          if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
            choose(!isScheduled);
            const all = tabs.current!.querySelectorAll('button');
            all[isScheduled ? 0 : 1].focus();
          }
        }}
      >
        {[false, true].map(one => (
          <button
            key={String(one)}
            type="button"
            role="tab"
            id={`${id}-${one}`}
            aria-selected={isScheduled === one}
            aria-controls={`${id}-panel`}
            tabIndex={isScheduled === one ? 0 : -1}
            onClick={() => choose(one)}
          >
            {one ? trans.__('Schedule') : trans.__('Run now')}
          </button>
        ))}
      </div>
      <div
        id={`${id}-panel`}
        className="jp-TaskAPI-Run-panel"
        role="tabpanel"
        aria-labelledby={`${id}-${isScheduled}`}
      >
        {children}
      </div>
    </>
  );
}

/** When a notebook is to run again and again. */
export function ScheduleFields({
  form,
  change,
  wrongIn,
  api,
  ask,
  trans
}: {
  form: IScheduleForm;
  change: (part: Partial<IScheduleForm>) => void;
  /** What is wrong with a field, as it was said last. */
  wrongIn: (name: string) => string | undefined;
  /** The name of the notebook's API. */
  api: string;
  ask: AskPreview;
  trans: TranslationBundle;
}): JSX.Element {
  const id = React.useId();
  const known = usePreview(form, ask);
  const fields = fieldsOf(
    id,
    name => wrongIn(name) ?? (name === known.field ? known.wrong : undefined)
  );
  const parts = { form, change, fields, trans };
  return (
    <fieldset>
      <legend>{trans.__('Schedule')}</legend>
      <div className="jp-TaskAPI-Run-fields">
        <When {...parts} known={known} />
        <Name {...parts} text={trans.__('Schedule’s name')} api={api} />
        <Rules {...parts} />
      </div>
    </fieldset>
  );
}
