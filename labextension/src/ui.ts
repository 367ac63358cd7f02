import type { TranslationBundle } from '@jupyterlab/translation';
import type { CommandRegistry } from '@lumino/commands';

/** Words and icons for a status; never a colour alone. */
export function statusLabel(status: string, trans: TranslationBundle): string {
  switch (status) {
    case 'pending':
      return trans.__('pending');
    case 'running':
      return trans.__('running');
    case 'succeeded':
      return trans.__('succeeded');
    case 'worker_error':
      return trans.__('worker error');
    case 'worker_oom':
      return trans.__('out of memory');
    case 'timed_out':
      return trans.__('timed out');
    case 'stopped':
      return trans.__('stopped');
    case 'unexpected_error':
      return trans.__('unexpected error');
    default:
      return status.replace(/_/g, ' ');
  }
}

/** What components are handed beside their data. */
export interface IContext {
  trans: TranslationBundle;
  commands: CommandRegistry;
}
