import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import React from 'react';

import type { DeployResult } from '../api/contract';
import type { IScheduleForm } from '../schedule/form';
import {
  scheduleFieldIn,
  scheduleFormFor,
  wrongInSchedule
} from '../schedule/form';
import type { AskPreview } from '../schedule/preview';
import { useSignal } from '../ui/components';
import type { Wrong } from '../ui/fields';
import { fieldsOf } from '../ui/fields';
import { clean } from '../ui/format';
import { StayingBody, StayingDialog, useFocus } from '../ui/staying';
import type { IForm, Packages } from './form';
import {
  choicesOf,
  fieldIn,
  packagesOf,
  planWords,
  requirementsIn,
  wrongIn
} from './form';
import type { IAssigned } from './parameters';
import { fieldOf, kindOf } from './parameters';
import { ScheduleFields, Tabs } from './scheduling';

/** Characters of a sentence of the server. */
const SENTENCE = 400;

/** A kernel that can be chosen. */
export interface IKernel {
  name: string;
  label: string;
  /** Why no job can be started with it. */
  problem?: string;
}

export interface IRunOptions {
  /** The notebook’s name. */
  notebook: string;
  /** Whether it has changes that are not saved. */
  unsaved: boolean;
  kernels: readonly IKernel[];
  /** The same with what the server says of them; null where it is an older one, which builds no environments. */
  served: Promise<readonly IKernel[] | null>;
  /** Whether it has a `# /// script` block. */
  hasBlock: boolean;
  /** Its parameters; null where none of its cells is tagged, or their language is not read here. */
  assigned: readonly IAssigned[] | null;
  form: IForm;
  trans: TranslationBundle;
  /** Ask which Python and packages the job will have. */
  plan: (form: IForm) => Promise<DeployResult>;
  /** Save, deploy and submit it; throws what went wrong, and the dialog stays. */
  run: (form: IForm) => Promise<void>;
  /** What schedules it; absent where the server keeps no schedules. */
  schedules?: {
    ask: AskPreview;
    /** Save and deploy it, and make a schedule of its API. */
    save: (form: IForm, schedule: IScheduleForm) => Promise<void>;
  };
}

/** Ask how to run a notebook, and run or schedule it; return whether that was done. */
export async function askToRun(options: IRunOptions): Promise<boolean> {
  const { trans, notebook } = options;
  const title = trans.__('Run %1 as a job', notebook);
  const dialog = new StayingDialog(title, new RunBody(options));
  const { button } = await dialog.launch();
  return button.accept;
}

/** What is known of the Python and the packages that a job will have. */
interface IPlan {
  /** Whether the server is at it. */
  busy?: boolean;
  words?: string;
  /** The path of the interpreter. */
  title?: string;
  warnings?: readonly string[];
  /** Why there could be no such job, and the field that this is about. */
  wrong?: string;
  field?: 'kernel' | 'packages' | 'python';
}

/** What the names of the schedule's fields begin with. */
const SCHEDULE = 'schedule.';

/** Milliseconds that a choice stays before the server is asked about it. */
const STAYS = 400;

class RunBody extends StayingBody {
  constructor(readonly options: IRunOptions) {
    super();
    this.form = options.form;
    this.addClass('jp-TaskAPI-Run');
  }

  form: IForm;

  /** When it is to run, where it isn't now. */
  schedule = scheduleFormFor();

  /** Whether it is to run again and again. */
  isScheduled = false;

  /** What the server makes of the kernel and the packages that are chosen. */
  plan: IPlan = {};

  get label(): string {
    const { trans } = this.options;
    return this.isScheduled ? trans.__('Schedule') : trans.__('Run');
  }

  check(): Wrong {
    const { trans, assigned } = this.options;
    const wrong = wrongIn(this.form, assigned ?? [], trans);
    const when = this.isScheduled ? wrongInSchedule(this.schedule, trans) : {};
    Object.entries(when).forEach(([field, said]) => {
      wrong[`${SCHEDULE}${field}`] = said;
    });
    return wrong;
  }

  async act(): Promise<void> {
    const { run, schedules } = this.options;
    await (this.isScheduled && schedules
      ? schedules.save(this.form, this.schedule)
      : run(this.form));
  }

  fieldIn(message: string): string {
    if (message === this.plan.wrong) {
      return this.plan.field!;
    }
    const field = fieldIn(message, this.options.assigned ?? []);
    const when = this.isScheduled && !field ? scheduleFieldIn(message) : '';
    return when ? `${SCHEDULE}${when}` : field;
  }

  protected render(): JSX.Element {
    return <RunForm body={this} />;
  }
}

/** Ask what a job will have, each time that another kernel or other packages are chosen. */
function usePlan(body: RunBody, form: IForm, isAsked: boolean): IPlan {
  const [plan, setPlan] = React.useState<IPlan>({});
  const { kernel, packages, requirements, python } = form;
  React.useEffect(() => {
    if (!isAsked) {
      setPlan({});
      return;
    }
    const { trans, hasBlock, plan: ask } = body.options;
    let current = true;
    const timer = setTimeout(() => {
      setPlan({ busy: true });
      ask(form)
        .then(
          ({ plan, warnings }): IPlan =>
            plan
              ? {
                  words: planWords(plan, trans),
                  title: plan.python?.version && plan.python.path,
                  warnings
                }
              : {},
          (error): IPlan => {
            const wrong =
              error instanceof Error ? error.message : String(error);
            const about =
              packagesOf(form, hasBlock) === 'kernel'
                ? 'kernel'
                : fieldIn(wrong, []);
            const isOther = about === 'kernel' || about === 'python';
            return { wrong, field: isOther ? about : 'packages' };
          }
        )
        .then(plan => current && setPlan(plan));
    }, STAYS);
    return () => {
      current = false;
      clearTimeout(timer);
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- nothing else of the form matters
  }, [body, isAsked, kernel, packages, requirements, python]);
  body.plan = plan;
  return plan;
}

function RunForm({ body }: { body: RunBody }): JSX.Element {
  useSignal(body.changed);
  const { trans, assigned, unsaved, hasBlock, served } = body.options;
  const { schedules } = body.options;
  const [form, setForm] = React.useState(body.form);
  const [schedule, setSchedule] = React.useState(body.schedule);
  const [kernels, setKernels] = React.useState(body.options.kernels);
  const [hasPackages, setHasPackages] = React.useState<boolean | null>(null); // until the server has answered
  React.useEffect(() => {
    void served.then(all => {
      setKernels(before => all ?? before);
      setHasPackages(all !== null);
    });
  }, [served]);
  const id = React.useId();
  const change = (part: Partial<IForm>) => {
    body.form = { ...form, ...part };
    setForm(body.form);
  };
  const { wrong, busy } = body;
  const packages =
    hasPackages === false ? 'kernel' : packagesOf(form, hasBlock);
  const problem =
    packages === 'kernel' &&
    kernels.find(one => one.name === form.kernel)?.problem;
  const isListed = requirementsIn(form.requirements).length > 0;
  const plan = usePlan(
    body,
    form,
    !!hasPackages && !problem && (packages !== 'list' || isListed)
  );
  useFocus(body);
  /** Return what is wrong with a field. */
  const errorOf = (name: string) =>
    wrong[name] ??
    (name === plan.field
      ? plan.wrong
      : name === 'kernel' && problem
        ? clean(problem, SENTENCE)
        : undefined);
  const { field, said, label } = fieldsOf(id, errorOf);
  const text = (
    name: 'name' | 'python' | 'timeout' | 'memory',
    placeholder: string | undefined = undefined
  ) => (
    <input
      {...field(name)}
      className="jp-mod-styled"
      spellCheck={false}
      placeholder={placeholder}
      value={form[name]}
      onChange={event => change({ [name]: event.currentTarget.value })}
    />
  );
  const check = (name: 'html' | 'keep', words: string) => (
    <label className="jp-TaskAPI-Run-check">
      <input
        type="checkbox"
        checked={form[name]}
        onChange={event => change({ [name]: event.currentTarget.checked })}
      />
      {words}
    </label>
  );
  const main = (
    <>
      {unsaved && (
        <p className="jp-TaskAPI-Note">
          {trans.__('The notebook has unsaved changes: it is saved first.')}
        </p>
      )}
      <div className="jp-TaskAPI-Run-fields">
        {label('name', trans.__('Name'))}
        {text('name')}
        {said('name')}
        {label('kernel', trans.__('Kernel'))}
        <HTMLSelect
          {...field('kernel')}
          value={form.kernel}
          disabled={packages !== 'kernel'}
          onChange={event => change({ kernel: event.currentTarget.value })}
          options={kernels.map(one => ({ value: one.name, label: one.label }))}
        />
        {said(
          'kernel',
          packages !== 'kernel' &&
            trans.__('The packages get a kernel of their own.')
        )}
        {hasPackages !== false && (
          <>
            {label('packages', trans.__('Packages'))}
            <HTMLSelect
              {...field('packages')}
              value={packages}
              onChange={event => {
                const one = event.currentTarget.value as Packages;
                const isDefault = one === choicesOf(hasBlock)[0];
                change({ packages: isDefault ? '' : one });
              }}
              options={choicesOf(hasBlock).map(value => ({
                value,
                label: packagesLabel(value, trans)
              }))}
            />
            {packages === 'list' && (
              <textarea
                className="jp-mod-styled"
                aria-label={trans.__('Requirements, one a line')}
                aria-invalid={!!errorOf('packages')}
                aria-describedby={`${id}-packages-said`}
                spellCheck={false}
                rows={3}
                placeholder={'numpy\npandas<3'}
                value={form.requirements}
                onChange={event =>
                  change({ requirements: event.currentTarget.value })
                }
              />
            )}
            {said('packages')}
            {packages !== 'kernel' && (
              <>
                {label('python', trans.__('Python'))}
                {text('python', trans.__('one that fits; such as 3.12'))}
                {said('python')}
              </>
            )}
            <div
              role="status"
              className="jp-TaskAPI-Run-plan"
              title={plan.title}
            >
              {plan.busy || hasPackages === null
                ? trans.__('resolving…')
                : plan.words}
              {plan.warnings?.map(one => (
                <div key={one}>
                  {trans.__('Warning: %1', clean(one, SENTENCE))}
                </div>
              ))}
            </div>
          </>
        )}
      </div>
      {assigned && (
        <fieldset>
          <legend>{trans.__('Parameters')}</legend>
          {assigned.length ? (
            <div className="jp-TaskAPI-Run-fields">
              {assigned.map(one => (
                <React.Fragment key={one.name}>
                  {label(
                    `parameters.${one.name}`,
                    <code title={one.name}>{one.name}</code>
                  )}
                  <Parameter
                    one={one}
                    value={form.parameters[one.name] ?? fieldOf(one)}
                    attributes={field(`parameters.${one.name}`)}
                    onChange={value =>
                      change({
                        parameters: { ...form.parameters, [one.name]: value }
                      })
                    }
                  />
                  {said(`parameters.${one.name}`, one.help)}
                </React.Fragment>
              ))}
            </div>
          ) : (
            <p className="jp-TaskAPI-Note">
              {trans.__('The cell tagged “parameters” assigns none.')}
            </p>
          )}
        </fieldset>
      )}
      <div className="jp-TaskAPI-Run-fields">
        {label('timeout', trans.__('Timeout (s)'))}
        {text('timeout', trans.__('none'))}
        {said('timeout')}
        {label('memory', trans.__('Memory'))}
        {text('memory', trans.__('no limit; such as 500Mi or 4Gi'))}
        {said('memory')}
      </div>
      {check('html', trans.__('HTML, too'))}
      {check('keep', trans.__('Keep the kernel for 30 min if a cell fails'))}
    </>
  );
  return (
    <>
      {schedules ? (
        <Tabs
          isScheduled={body.isScheduled}
          choose={isScheduled => {
            body.isScheduled = isScheduled;
            body.say({});
          }}
          trans={trans}
        >
          {body.isScheduled && (
            <ScheduleFields
              form={schedule}
              change={part => {
                body.schedule = { ...body.schedule, ...part };
                setSchedule(body.schedule);
              }}
              wrongIn={name => wrong[`${SCHEDULE}${name}`]}
              api={form.name.trim()}
              ask={schedules.ask}
              trans={trans}
            />
          )}
          {main}
        </Tabs>
      ) : (
        main
      )}
      <div role="status">
        {wrong[''] && <p className="jp-TaskAPI-Error">{wrong['']}</p>}
        {busy && <p className="jp-TaskAPI-Note">{trans.__('Submitting…')}</p>}
      </div>
    </>
  );
}

function packagesLabel(packages: Packages, trans: TranslationBundle): string {
  switch (packages) {
    case 'kernel':
      return trans.__('the kernel’s own');
    case 'script':
      return trans.__('what its “# /// script” block asks for');
    case 'project':
      return trans.__('the project’s (uv.lock, requirements.txt, …)');
    case 'list':
      return trans.__('a list');
  }
}

/** A field of a parameter's type: a box to check, or a text; what is no text, number or truth value is JSON. */
function Parameter({
  one,
  value,
  attributes,
  onChange
}: {
  one: IAssigned;
  value: string;
  attributes: React.InputHTMLAttributes<HTMLInputElement>;
  onChange: (value: string) => void;
}): JSX.Element {
  const kind = kindOf(one);
  return kind === 'boolean' ? (
    <input
      {...attributes}
      type="checkbox"
      checked={value === 'true'}
      onChange={event => onChange(String(event.currentTarget.checked))}
    />
  ) : (
    <input
      {...attributes}
      className="jp-mod-styled"
      inputMode={kind === 'number' ? 'decimal' : undefined}
      spellCheck={false}
      placeholder={kind === 'text' ? '' : one.source}
      value={value}
      onChange={event => onChange(event.currentTarget.value)}
    />
  );
}
