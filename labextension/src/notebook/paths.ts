import { PageConfig, PathExt } from '@jupyterlab/coreutils';

import { shortId } from '../ui/format';

/** Where a notebook is: its folder on the server's disk, and its name in it. */
export interface IPlace {
  folder: string;
  name: string;
}

/** The folder that the server shows, on its disk; empty where what it shows is no folder. */
export function serverRoot(): string {
  return PageConfig.getOption('taskapiRoot');
}

/** Return the path of a notebook on the disk. */
export function pathOf({ folder, name }: IPlace): string {
  return `${folder.replace(/\/$/, '')}/${name}`;
}

/** Return where a notebook of the default drive is on the server's disk, `root` being the folder that it serves. */
export function placeIn(root: string, localPath: string): IPlace {
  const folder = PathExt.dirname(localPath);
  return {
    folder: folder ? `${root.replace(/\/$/, '')}/${folder}` : root,
    name: PathExt.basename(localPath)
  };
}

/** Return the path in the file browser of a file on the server's disk; null for one that is outside. */
export function contentsPath(root: string, path: string): string | null {
  const base = root.replace(/\/*$/, '/');
  if (!root || !path.startsWith(base)) {
    return path.startsWith('/') || !path ? null : path;
  }
  return path.slice(base.length);
}

/** Return how the notebook of a job is called, beside the one that was deployed: `report-1a2b.ipynb`. */
export function copyName(name: string, id: string): string {
  return `${PathExt.basename(name, '.ipynb')}-${shortId(id)}.ipynb`;
}
