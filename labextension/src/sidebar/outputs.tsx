import { Clipboard } from '@jupyterlab/apputils';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon, copyIcon, downloadIcon } from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { IJobRef, TaskAPIClient } from '../api/client';
import type { FileEntry, FilesResponse } from '../api/contract';
import { cut, size } from '../ui/format';
import { APIError } from '../api/request';
import { CommandIDs } from '../tokens';
import { download, IconButton, pretty, useFlash } from '../ui/components';
import { Preview, SVG, svgURL } from './preview';

/** Characters of a config or a result that are drawn. */
const SHOWN = 50_000;

/** A JSON value that can be folded away and copied. */
export function Value({
  title,
  value,
  children,
  trans
}: {
  title: string;
  value: unknown;
  /** The value as it is to be shown, if not as JSON. */
  children?: React.ReactNode;
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
          {children ?? text.slice(0, SHOWN)}
        </pre>
        {!children && text.length > SHOWN && (
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
  rendermime,
  trans
}: {
  ref_: IJobRef;
  client: TaskAPIClient;
  /** Asked again when the server is back. */
  connected: boolean;
  rendermime: IRenderMimeRegistry;
  trans: TranslationBundle;
}): JSX.Element {
  const answer = useAnswer<{ json: unknown } | { forms: Forms }>(
    () =>
      client.result(ref_).then(
        json => ({ json }),
        async (error: Error) => {
          const { status = 0, notKept } =
            error instanceof APIError ? error : { notKept: false };
          if (status === 404 && !notKept) {
            return { json: null }; // a command returns nothing
          }
          // A pickle, which nobody loads for this; a server of an older version knows no preview.
          const { data } =
            status === 406
              ? await client.preview(ref_).catch(() => ({ data: {} }))
              : { data: {} };
          if (!Object.keys(data).length) {
            throw error;
          }
          return { forms: data };
        }
      ),
    [ref_.environment, ref_.id, connected]
  );
  if (answer === null) {
    return <></>;
  }
  const title = trans.__('Result');
  if (!('value' in answer)) {
    return <Said title={title} answer={answer} />;
  }
  const { value } = answer;
  if ('json' in value) {
    return isTable(value.json) ? (
      <details className="jp-TaskAPI-Value" open>
        <summary>{title}</summary>
        <Table rows={value.json} trans={trans} />
      </details>
    ) : (
      <Value title={title} value={value.json} trans={trans} />
    );
  }
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{title}</summary>
      <Preview data={value.forms} rendermime={rendermime} trans={trans} />
    </details>
  );
}

type Forms = { [media: string]: string };
type Row = { [column: string]: unknown };

/** Rows and columns of a result that are shown. */
const ROWS = 100;
const COLUMNS = 30;

/** Whether a result is a list of flat objects: rows of a table. */
export function isTable(value: unknown): value is Row[] {
  return (
    Array.isArray(value) &&
    value.length > 1 &&
    value.every(
      row =>
        typeof row === 'object' &&
        row !== null &&
        !Array.isArray(row) &&
        Object.values(row as Row).every(one => typeof one !== 'object' || !one)
    )
  );
}

function Table({
  rows,
  trans
}: {
  rows: Row[];
  trans: TranslationBundle;
}): JSX.Element {
  const shown = rows.slice(0, ROWS);
  const all = [...new Set(shown.flatMap(row => Object.keys(row)))];
  const columns = all.slice(0, COLUMNS);
  const isCut = rows.length > ROWS || all.length > COLUMNS;
  return (
    <>
      <div
        className="jp-TaskAPI-Preview"
        role="region"
        aria-label={trans.__('Result')}
        tabIndex={0}
      >
        <table>
          <thead>
            <tr>
              {columns.map(column => (
                <th key={column} scope="col">
                  {cut(column, CELL)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((row, index) => (
              <tr key={index}>
                {columns.map(column => (
                  <td
                    key={column}
                    className={
                      typeof row[column] === 'number' ? 'jp-mod-number' : ''
                    }
                  >
                    {cut(String(row[column] ?? ''), CELL)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {isCut && (
        <p className="jp-TaskAPI-Note">
          {trans.__(
            'Showing %1 of %2 rows and %3 of %4 columns.',
            shown.length,
            rows.length,
            columns.length,
            all.length
          )}
        </p>
      )}
    </>
  );
}

/** Characters of a cell of a table. */
const CELL = 200;

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

/** Bytes of a file that Lab is to open; a larger one is downloaded. */
const OPENED = 50 << 20;

/** Pictures that are shown, each of so many bytes at most. */
const PICTURES = 4;
const PICTURE = 2 << 20;

/** Media types of pictures, by the end of their name. */
const MEDIA: { [ending: string]: string } = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  gif: 'image/gif',
  webp: 'image/webp',
  svg: SVG
};

function mediaOf(path: string): string | undefined {
  return MEDIA[path.slice(path.lastIndexOf('.') + 1).toLowerCase()];
}

/** A picture among a job's files; as an image it runs no scripts and loads nothing. */
function Picture({
  ref_,
  file,
  client
}: {
  ref_: IJobRef;
  file: FileEntry;
  client: TaskAPIClient;
}): JSX.Element {
  const [url, setURL] = React.useState('');
  const { path, modified } = file;
  React.useEffect(() => {
    let made = '';
    let current = true;
    const type = mediaOf(path);
    const read = async () => {
      const blob = await client.file(ref_, path);
      if (type === SVG) {
        return svgURL(await blob.text());
      }
      return current
        ? (made = URL.createObjectURL(new Blob([blob], { type })))
        : '';
    };
    read().then(
      found => current && setURL(found),
      () => undefined // its name stays in the list
    );
    return () => {
      current = false;
      URL.revokeObjectURL(made);
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- a reference is another object each time
  }, [client, ref_.environment, ref_.id, path, modified]);
  return url ? (
    <img className="jp-TaskAPI-Picture" src={url} alt={path} />
  ) : (
    <></>
  );
}

export function Files({
  ref_,
  ended,
  commands,
  client,
  connected,
  trans
}: {
  ref_: IJobRef;
  ended: boolean;
  commands: CommandRegistry;
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
  const open = (file: FileEntry) => {
    const args = { ...ref_, path: file.path };
    return file.size <= OPENED && commands.isEnabled(CommandIDs.openFile, args)
      ? () => void commands.execute(CommandIDs.openFile, args)
      : null;
  };
  const pictures = ended
    ? answer.value.files.filter(
        ({ path, size: bytes }) => mediaOf(path) && bytes <= PICTURE
      )
    : [];
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{trans.__('Files')}</summary>
      <ul className="jp-TaskAPI-Files" aria-label={trans.__('Files')}>
        {answer.value.files.slice(0, 200).map(file => (
          <li key={file.path}>
            <FileName path={file.path} open={open(file)} trans={trans} />
            <span className="jp-TaskAPI-faint">{size(file.size)}</span>
            <IconButton
              icon={downloadIcon}
              label={trans.__('Download %1', file.path)}
              onClick={() => save(file)}
            />
          </li>
        ))}
      </ul>
      {pictures.slice(0, PICTURES).map(file => (
        <Picture key={file.path} ref_={ref_} file={file} client={client} />
      ))}
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

/** The name of a file, which opens it where Lab can show it. */
function FileName({
  path,
  open,
  trans
}: {
  path: string;
  open: (() => void) | null;
  trans: TranslationBundle;
}): JSX.Element {
  return open ? (
    <button
      type="button"
      className="jp-TaskAPI-Link jp-TaskAPI-ellipsis"
      title={trans.__('Open %1', path)}
      onClick={open}
    >
      {path}
    </button>
  ) : (
    <span className="jp-TaskAPI-ellipsis" title={path}>
      {path}
    </span>
  );
}
