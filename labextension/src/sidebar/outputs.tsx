import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon, copyIcon, downloadIcon } from '@jupyterlab/ui-components';
import React from 'react';

import type { IJobRef, TaskAPIClient } from '../api/client';
import type { FileEntry, FilesResponse } from '../api/contract';
import { size } from '../ui/format';
import { APIError } from '../api/request';
import { download, IconButton, pretty, useFlash } from '../ui/components';

/** Characters of a config or a result that are drawn. */
const SHOWN = 50_000;

/** A JSON value that can be folded away and copied. */
export function Value({
  title,
  value,
  trans
}: {
  title: string;
  value: unknown;
  trans: TranslationBundle;
}): JSX.Element {
  const [copied, copy] = useFlash();
  const text = React.useMemo(() => pretty(value), [value]);
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{title}</summary>
      <div>
        <IconButton
          icon={copied ? checkIcon : copyIcon}
          label={trans.__('Copy: %1', title)}
          className="jp-TaskAPI-Value-copy"
          onClick={() => {
            Clipboard.copyToSystem(text);
            copy(title);
          }}
        />
        <pre tabIndex={0} aria-label={title}>
          {text.slice(0, SHOWN)}
        </pre>
        {text.length > SHOWN && (
          <p className="jp-TaskAPI-Note">
            {trans.__(
              'Showing the first %1 of %2; the copy button copies all of it.',
              size(SHOWN),
              size(text.length)
            )}
          </p>
        )}
      </div>
    </details>
  );
}

type Answer<T> = { value: T } | { note: string } | { error: string } | null;

/** Ask for something once, and again when what it depends on changes. */
function useAnswer<T>(
  ask: () => Promise<T>,
  on: React.DependencyList
): Answer<T> {
  const [answer, setAnswer] = React.useState<Answer<T>>(null);
  React.useEffect(() => {
    let current = true;
    ask().then(
      value => current && setAnswer({ value }),
      (error: Error) => {
        if (current) {
          const quiet =
            error instanceof APIError &&
            (error.notKept || error.status === 406);
          setAnswer(quiet ? { note: error.message } : { error: error.message });
        }
      }
    );
    return () => {
      current = false;
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- the caller says on what it depends
  }, on);
  return answer;
}

export function Result({
  ref_,
  client,
  connected,
  trans
}: {
  ref_: IJobRef;
  client: TaskAPIClient;
  /** Asked again when the server is back. */
  connected: boolean;
  trans: TranslationBundle;
}): JSX.Element {
  const answer = useAnswer(
    () =>
      client.result(ref_).catch((error: Error) => {
        if (
          error instanceof APIError &&
          error.status === 404 &&
          !error.notKept
        ) {
          return null; // a command returns nothing
        }
        throw error;
      }),
    [ref_.environment, ref_.id, connected]
  );
  if (answer === null) {
    return <></>;
  }
  if ('value' in answer) {
    return (
      <Value title={trans.__('Result')} value={answer.value} trans={trans} />
    );
  }
  return <Said title={trans.__('Result')} answer={answer} />;
}

function Said({
  title,
  answer
}: {
  title: string;
  answer: { note: string } | { error: string };
}): JSX.Element {
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{title}</summary>
      <p className={'note' in answer ? 'jp-TaskAPI-Note' : 'jp-TaskAPI-Error'}>
        {'note' in answer ? answer.note : answer.error}
      </p>
    </details>
  );
}

function isEmpty({ files, truncated }: FilesResponse): boolean {
  return files.length === 0 && !truncated;
}

export function Files({
  ref_,
  ended,
  client,
  connected,
  trans
}: {
  ref_: IJobRef;
  ended: boolean;
  client: TaskAPIClient;
  /** Asked again when the server is back. */
  connected: boolean;
  trans: TranslationBundle;
}): JSX.Element {
  const answer = useAnswer(
    () => client.files(ref_),
    [ref_.environment, ref_.id, ended, connected]
  );
  const [failed, setFailed] = React.useState('');
  if (answer === null || ('value' in answer && isEmpty(answer.value))) {
    return <></>;
  }
  if (!('value' in answer)) {
    return <Said title={trans.__('Files')} answer={answer} />;
  }
  const save = (file: FileEntry) => {
    setFailed('');
    client.file(ref_, file.path).then(
      blob => download(blob, file.path.split('/').pop() ?? file.path),
      (error: Error) => setFailed(error.message)
    );
  };
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{trans.__('Files')}</summary>
      <ul className="jp-TaskAPI-Files" aria-label={trans.__('Files')}>
        {answer.value.files.slice(0, 200).map(file => (
          <li key={file.path}>
            <span className="jp-TaskAPI-ellipsis" title={file.path}>
              {file.path}
            </span>
            <span className="jp-TaskAPI-faint">{size(file.size)}</span>
            <IconButton
              icon={downloadIcon}
              label={trans.__('Download %1', file.path)}
              onClick={() => save(file)}
            />
          </li>
        ))}
      </ul>
      {answer.value.files.length > 200 && (
        <p className="jp-TaskAPI-Note">
          {trans.__(
            'Showing the first 200 of %1 files.',
            answer.value.files.length
          )}
        </p>
      )}
      {answer.value.truncated && (
        <p className="jp-TaskAPI-Note">{answer.value.truncated}</p>
      )}
      {failed && (
        <p className="jp-TaskAPI-Error" role="alert">
          {failed}
        </p>
      )}
    </details>
  );
}
