import { PathExt } from '@jupyterlab/coreutils';
import type {
  ICell,
  INotebookContent,
  INotebookMetadata
} from '@jupyterlab/nbformat';
import type { Contents } from '@jupyterlab/services';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';

import type { IJobRef, TaskAPIClient } from '../api/client';
import { APIError } from '../api/request';
import { shown } from './cells';

/** The name of the drive: `taskapi:ENVIRONMENT/JOB/report-1a2b.ipynb`. */
export const DRIVE = 'taskapi';

/** The error of a notebook that its job has not saved yet. */
export function isNotYet(error: unknown): boolean {
  return error instanceof APIError && error.kind === 'job.no_notebook_yet';
}

/** The folder of a job's files in the drive: `taskapi:ENVIRONMENT/JOB/files/PATH`. */
const FILES = 'files';

/** The notebooks and files of jobs, which can be read and nothing else. */
export class JobDrive implements Contents.IDrive {
  constructor(private readonly client: TaskAPIClient) {
    this.serverSettings = client.settings;
  }

  readonly name = DRIVE;
  readonly serverSettings;
  readonly fileChanged: ISignal<this, Contents.IChangedArgs> = new Signal<
    this,
    Contents.IChangedArgs
  >(this);

  /** Return the cells of a notebook that was read just now, as its job saved them; they are forgotten here. */
  taken(localPath: string): ICell[] {
    const cells = this._cells.get(localPath) ?? [];
    this._cells.delete(localPath);
    return cells;
  }

  /** Return the path of a job's notebook. */
  static pathOf({ environment, id }: IJobRef, name: string): string {
    return `${DRIVE}:${environment}/${id}/${name}`;
  }

  /** Return the path of one of a job's files. */
  static fileOf({ environment, id }: IJobRef, path: string): string {
    return `${DRIVE}:${environment}/${id}/${FILES}/${path}`;
  }

  /** Read a file, or a notebook; one that its job has not saved yet is empty. Its hash is the version that was read. */
  async get(
    localPath: string,
    options?: Contents.IFetchOptions
  ): Promise<Contents.IModel> {
    const [environment, id, folder, ...rest] = localPath.split('/');
    if (folder === FILES && rest.length) {
      const ref = { environment, api: '', id };
      return this.file(ref, rest.join('/'), localPath, options);
    }
    const model: Contents.IModel = {
      name: PathExt.basename(localPath),
      path: localPath,
      type: 'notebook',
      format: null,
      mimetype: '',
      content: null,
      writable: false,
      created: '',
      last_modified: ''
    };
    if (options?.content === false) {
      return model;
    }
    let content: INotebookContent;
    let version = '';
    try {
      const ref = { environment, api: '', id };
      ({ content, version } = await this.client.notebook(ref));
    } catch (error) {
      if (!isNotYet(error)) {
        throw error;
      }
      content = { metadata: {}, nbformat: 4, nbformat_minor: 5, cells: [] };
    }
    const cells = content.cells.map(shown);
    this._cells.set(localPath, cells);
    return {
      ...model,
      format: 'json',
      content: { ...content, cells, metadata: coloured(content.metadata) },
      hash: version,
      hash_algorithm: 'version'
    };
  }

  /** Read one of a job's files, as text or as base64. */
  private async file(
    ref: IJobRef,
    path: string,
    localPath: string,
    options?: Contents.IFetchOptions
  ): Promise<Contents.IModel> {
    const model: Contents.IModel = {
      name: PathExt.basename(path),
      path: localPath,
      type: 'file',
      format: null,
      mimetype: '',
      content: null,
      writable: false,
      created: '',
      last_modified: ''
    };
    if (options?.content === false) {
      return model;
    }
    const blob = await this.client.file(ref, path);
    if (options?.format !== 'base64') {
      return { ...model, format: 'text', content: await blob.text() };
    }
    const url = await new Promise<string>((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result as string);
      reader.onerror = () => reject(reader.error ?? new Error(path));
      reader.readAsDataURL(blob);
    });
    const content = url.slice(url.indexOf(',') + 1);
    return { ...model, format: 'base64', content };
  }

  getDownloadUrl(localPath: string): Promise<string> {
    const [environment, id, folder, ...rest] = localPath.split('/');
    const ref = { environment, api: '', id };
    return Promise.resolve(
      folder === FILES && rest.length
        ? this.client.fileURL(ref, rest.join('/'))
        : this.client.notebookURL(ref)
    );
  }

  listCheckpoints(): Promise<Contents.ICheckpointModel[]> {
    return Promise.resolve([]);
  }

  newUntitled = refuse;
  delete = refuse;
  rename = refuse;
  save = refuse;
  copy = refuse;
  createCheckpoint = refuse;
  restoreCheckpoint = refuse;
  deleteCheckpoint = refuse;

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    this._disposed = true;
    Signal.clearData(this);
  }

  private _disposed = false;
  private _cells = new Map<string, ICell[]>();
}

/** Return a notebook's metadata with its language, by which Lab colours the cells; a deploy leaves it out. */
function coloured(metadata: INotebookMetadata): INotebookMetadata {
  const language = metadata.kernelspec?.language;
  return metadata.language_info || typeof language !== 'string'
    ? metadata
    : { ...metadata, language_info: { name: language.toLowerCase() } };
}

function refuse(): Promise<never> {
  return Promise.reject(
    new Error('What a job left can’t be changed: save a copy of it.')
  );
}
