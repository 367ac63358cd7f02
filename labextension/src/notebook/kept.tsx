import type { TranslationBundle } from '@jupyterlab/translation';
import {
  closeIcon,
  fastForwardIcon,
  kernelIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { IJobRef } from '../api/client';
import { CommandIDs } from '../tokens';
import { ActionButton } from '../ui/components';

/** What can be done with the kernel that a job keeps after a cell of its notebook failed. */
export function KeptKernel({
  ref_,
  commands,
  trans
}: {
  ref_: IJobRef;
  commands: CommandRegistry;
  trans: TranslationBundle;
}): JSX.Element {
  const run = (command: string) => () =>
    void commands.execute(command, { ...ref_ });
  return (
    <>
      <ActionButton
        icon={kernelIcon}
        label={trans.__('Attach')}
        caption={trans.__('Open a copy on the kernel that is kept')}
        onClick={run(CommandIDs.attach)}
      />
      <ActionButton
        icon={fastForwardIcon}
        label={trans.__('Go on')}
        caption={trans.__('Run the failed cell again, and those after it')}
        onClick={run(CommandIDs.resume)}
      />
      <ActionButton
        icon={closeIcon}
        label={trans.__('End now')}
        caption={trans.__('End the kernel that is kept, and the job')}
        onClick={run(CommandIDs.endKernel)}
      />
    </>
  );
}
