import type { TranslationBundle } from '@jupyterlab/translation';

/** Say how many jobs are in progress: `2 running, 40 pending`; nothing where none is. */
export function goingWords(
  running: number,
  pending: number,
  trans: TranslationBundle
): string {
  return [
    running && trans.__('%1 running', running),
    pending && trans.__('%1 pending', pending)
  ]
    .filter(Boolean)
    .join(', ');
}
