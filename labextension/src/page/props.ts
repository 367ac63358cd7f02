import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';

import type { TaskAPIModel } from '../model/model';
import type { JobSource } from './source';
import type { PageState } from './state';

/** What the parts of a page are handed. */
export interface IPageProps {
  model: TaskAPIModel;
  source: JobSource;
  state: PageState;
  commands: CommandRegistry;
  rendermime: IRenderMimeRegistry;
  trans: TranslationBundle;
}
