import type { TranslationBundle } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';

import type { TaskAPIModel } from '../model/model';
import type { ViewState } from './state';

/** What the parts of the sidebar are handed. */
export interface IPartProps {
  model: TaskAPIModel;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

/** What those are handed that show a choice. */
export interface IListProps extends IPartProps {
  state: ViewState;
}
