import { CodeEditor, IEditorServices } from '@jupyterlab/codeeditor';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { ParseError } from 'jsonc-parser';
import { parse, printParseErrorCode } from 'jsonc-parser';
import React from 'react';

import type { API } from '../api/contract';
import { definitionOf, nameOf, parametersOf } from '../api/contract';
import { duration, shortId } from '../ui/format';
import type { TaskAPIModel } from '../model/model';
import { pretty } from '../ui/components';
import { Parameters } from './parameters';
import type { IDraft } from './state';

export interface ISubmitProps {
  api: API;
  /** What it begins with, if not with the defaults. */
  draft: IDraft | null;
  model: TaskAPIModel;
  editors: IEditorServices;
  trans: TranslationBundle;
  /** Called with the config as it is edited; null while it is invalid. */
  onConfig: (config: Config | null) => void;
}

export type Config = { [key: string]: unknown };

/** Return what the form begins with: the parameters' defaults, and over them the API's own config. */
export function defaultsOf(api: API): Config {
  const defaults = (parametersOf(api) ?? [])
    .filter(one => 'default' in one && isExact(one.default))
    .map(one => [one.name, one.default] as const);
  return { ...Object.fromEntries(defaults), ...definitionOf(api).config };
}

/** Whether a value is as Python wrote it: JavaScript rounds whole numbers beyond 2 ** 53. */
export function isExact(value: unknown): boolean {
  return typeof value === 'object' && value !== null
    ? Object.values(value).every(isExact)
    : !Number.isInteger(value) || Number.isSafeInteger(value);
}

/** Read a config as it is typed: an object, or a sentence that says why it is invalid. */
export function readConfig(
  text: string,
  trans: TranslationBundle
): { config: Config } | { error: string } {
  if (!text.trim()) {
    return { config: {} };
  }
  const errors: ParseError[] = [];
  parse(text, errors, { disallowComments: true }); // says where, which not every browser does
  if (errors.length) {
    return {
      error: trans.__('Not valid JSON: %1', sentenceOf(errors[0], text))
    };
  }
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { error: trans.__('The config must be an object: {"name": value}') };
  }
  return { config: value as Config };
}

/** The error and its position, in the same words in every browser. */
function sentenceOf({ error, offset }: ParseError, text: string): string {
  const what = printParseErrorCode(error)
    .replace(/(?!^)([A-Z])/g, ' $1')
    .toLowerCase();
  const before = text.slice(0, offset).split('\n');
  const column = before[before.length - 1].length + 1;
  return `${what} (line ${before.length}, column ${column})`;
}

/** A form that submits a job: config as JSON in Lab's own editor, timeout. */
export function SubmitForm(props: ISubmitProps): JSX.Element {
  const { api, draft, model, editors, trans, onConfig } = props;
  const name = nameOf(api);
  const [text, setText] = React.useState(() =>
    pretty({ ...defaultsOf(api), ...draft?.config })
  );
  const [timeout, setTimeout_] = React.useState(String(draft?.timeout ?? ''));
  const [said, setSaid] = React.useState<
    { error: string } | { done: string } | null
  >(null);
  const [busy, setBusy] = React.useState(false);
  const id = React.useId();
  const read = React.useMemo(() => readConfig(text, trans), [text, trans]);
  const wrong = 'error' in read ? read.error : '';
  const seconds = timeout.trim() === '' ? null : Number(timeout);
  const badTimeout =
    seconds !== null &&
    !(Number.isInteger(seconds) && seconds >= 1 && seconds <= 1e9);
  const standing = (api.spec?.timeout ?? null) as number | null;

  React.useEffect(() => {
    onConfig('config' in read ? read.config : null);
  }, [read, onConfig]);

  const submit = async () => {
    if (busy || badTimeout || !('config' in read)) {
      return;
    }
    setBusy(true);
    setSaid(null);
    try {
      const job = await model.client.submit(model.environment, name, {
        config: read.config,
        timeout: seconds
      });
      setSaid({ done: trans.__('Submitted %1.', shortId(job.job_id)) });
      await model.current.refreshJob(job.job_id);
      model.select(job.job_id);
    } catch (error) {
      setSaid({ error: (error as Error).message });
    } finally {
      setBusy(false);
    }
  };

  return (
    <form
      className="jp-TaskAPI-Submit"
      aria-label={trans.__('Submit a job to %1', name)}
      onSubmit={event => {
        event.preventDefault();
        void submit();
      }}
      onKeyDownCapture={event => {
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          event.stopPropagation();
          void submit();
        }
      }}
    >
      <div className="jp-TaskAPI-Label">{trans.__('Config (JSON)')}</div>
      <JSONEditor
        value={text}
        label={trans.__('Config of the job, as JSON')}
        invalid={!!wrong}
        describedBy={`${id}-wrong`}
        editors={editors}
        focused={draft !== null}
        onChange={value => {
          setText(value);
          setSaid(null);
        }}
      />
      {draft && !isExact(draft.config) && (
        <p className="jp-TaskAPI-Note">
          {trans.__(
            'A browser rounds whole numbers beyond 2^53: %taskapi rerun takes the config as it is.'
          )}
        </p>
      )}
      <div id={`${id}-wrong`} className="jp-TaskAPI-Error" role="status">
        {wrong}
      </div>
      <div className="jp-TaskAPI-Submit-row">
        <label htmlFor={`${id}-timeout`}>{trans.__('Timeout (s)')}</label>
        <input
          id={`${id}-timeout`}
          className="jp-mod-styled"
          inputMode="numeric"
          value={timeout}
          placeholder={standing ? String(standing) : trans.__('none')}
          title={
            standing
              ? trans.__(
                  'Seconds from submission; default: %1',
                  duration(standing)
                )
              : trans.__('Seconds from submission')
          }
          aria-invalid={badTimeout}
          onChange={event => setTimeout_(event.currentTarget.value)}
        />
        <button
          type="submit"
          className="jp-Dialog-button jp-mod-accept jp-mod-styled"
          disabled={busy || badTimeout || !!wrong}
          title={trans.__('Ctrl+Enter in the editor')}
        >
          {busy ? trans.__('Submitting…') : trans.__('Submit')}
        </button>
      </div>
      <div role="status">
        {badTimeout && (
          <span className="jp-TaskAPI-Error">
            {trans.__(
              'The timeout must be a whole number of seconds, at least 1.'
            )}
          </span>
        )}
        {said && 'error' in said && (
          <span className="jp-TaskAPI-Error">{said.error}</span>
        )}
        {said && 'done' in said && (
          <span className="jp-TaskAPI-Note">{said.done}</span>
        )}
      </div>
      <Parameters api={api} trans={trans} />
    </form>
  );
}

/** Lab's own CodeMirror, for a few lines of JSON. */
export function JSONEditor({
  value,
  label,
  invalid,
  describedBy,
  editors,
  focused,
  onChange
}: {
  value: string;
  label: string;
  invalid: boolean;
  describedBy: string;
  editors: IEditorServices;
  /** Whether one writes in it at once. */
  focused: boolean;
  onChange: (value: string) => void;
}): JSX.Element {
  const host = React.useRef<HTMLDivElement>(null);
  const changed = React.useRef(onChange);
  changed.current = onChange;

  React.useEffect(() => {
    const model = new CodeEditor.Model({ mimeType: 'application/json' });
    model.sharedModel.setSource(value);
    const editor = editors.factoryService.newInlineEditor({
      host: host.current!,
      model,
      config: {
        lineWrap: true,
        lineNumbers: false,
        codeFolding: false,
        tabFocusable: true
      }
    });
    model.sharedModel.changed.connect(() =>
      changed.current(model.sharedModel.getSource())
    );
    const content = host.current!.querySelector('.cm-content');
    content?.setAttribute('aria-label', label);
    content?.setAttribute('aria-describedby', describedBy);
    if (focused) {
      host.current!.scrollIntoView({ block: 'nearest' });
      editor.focus();
    }
    return () => {
      editor.dispose();
      model.dispose();
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the editor holds the text from here on
  }, [editors]);

  return (
    <div
      ref={host}
      className={`jp-TaskAPI-Editor ${invalid ? 'jp-mod-invalid' : ''}`}
    />
  );
}
