import { Dialog, showDialog } from '@jupyterlab/apputils';

/** Ask whether to do what can't be undone, `label` being its button; Enter does not. */
export async function ask(
  title: string,
  body: string,
  label: string
): Promise<boolean> {
  const { button } = await showDialog({
    title,
    body,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label })],
    defaultButton: 0
  });
  return button.accept;
}
