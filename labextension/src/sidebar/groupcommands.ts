import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import {
  copyIcon,
  deleteIcon,
  refreshIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';

import type { IGroupRef } from '../api/client';
import type { Group } from '../api/contract';
import { goingOf, tallyOf } from '../api/contract';
import { STAYS, UnderWay } from '../commands';
import type { TaskAPIModel } from '../model/model';
import { argsOf, groupAt, POINTED } from '../targets';
import { CommandIDs } from '../tokens';
import { ask } from '../ui/ask';
import { groupName } from './group';

/** Add the commands that act on a group. */
export function addGroupCommands(
  commands: CommandRegistry,
  model: TaskAPIModel,
  trans: TranslationBundle
): void {
  const busy = new UnderWay(commands);

  const known = ({ environment, group }: IGroupRef) =>
    model.jobs(environment).getGroup(group);

  function add(
    id: string,
    label: string,
    caption: string,
    icon: LabIcon,
    when: (group: Group | undefined, ref: IGroupRef) => boolean,
    act: (ref: IGroupRef) => Promise<void>
  ): void {
    const key = (ref: IGroupRef) => `${id} ${ref.environment} ${ref.group}`;
    commands.addCommand(id, {
      label,
      caption,
      icon: args => (args[POINTED] ? icon : undefined),
      describedBy: argsOf('environment', 'group', POINTED),
      isEnabled: args => {
        const ref = groupAt(args, model);
        return !!ref && !busy.has(key(ref)) && when(known(ref), ref);
      },
      isVisible: args => {
        const ref = groupAt(args, model);
        return !!ref && when(known(ref), ref);
      },
      execute: async args => {
        const ref = groupAt(args, model);
        if (ref) {
          await busy.run(key(ref), () => act(ref));
        }
      }
    });
  }

  add(
    CommandIDs.stopGroup,
    trans.__('Stop Group'),
    trans.__('Stop all jobs of a group'),
    stopIcon,
    group => !group || goingOf(group) > 0,
    async ref => {
      try {
        await model.client.stopGroup(ref);
      } finally {
        await model.jobs(ref.environment).refreshGroup(ref.group);
      }
    }
  );

  add(
    CommandIDs.rerunGroup,
    trans.__('Rerun Failed Jobs'),
    trans.__('Submit the configs of failed and stopped jobs as a new group'),
    refreshIcon,
    group => !group || tallyOf(group).failed + tallyOf(group).stopped > 0,
    async ref => {
      const { group, job_ids: ids } = await model.client.rerunGroup(ref);
      Notification.info(
        trans._n(
          'Submitted %1 job again, as group %2',
          'Submitted %1 jobs again, as group %2',
          ids.length,
          groupName(group, 60)
        ),
        { autoClose: STAYS }
      );
      await model.jobs(ref.environment).refreshGroup(group.id);
    }
  );

  add(
    CommandIDs.deleteGroup,
    trans.__('Delete Group…'),
    trans.__('Delete an ended group with its jobs'),
    deleteIcon,
    (group, ref) =>
      model.keeps(ref.environment) && (!group || goingOf(group) === 0),
    async ref => {
      const group = known(ref);
      const name = group ? groupName(group, 60) : ref.group;
      const sure = await ask(
        trans.__('Delete group %1?', name),
        group
          ? trans._n(
              'Its %1 job is deleted, with its log, result and files.',
              'Its %1 jobs are deleted, with their logs, results and files.',
              group.size
            )
          : trans.__('Its jobs are deleted, with logs, results and files.'),
        trans.__('Delete')
      );
      if (sure) {
        await model.client.forgetGroup(ref);
        model.jobs(ref.environment).dropGroup(ref.group);
      }
    }
  );

  add(
    CommandIDs.copyGroup,
    trans.__('Copy Group ID'),
    trans.__('Copy a group’s id to the clipboard'),
    copyIcon,
    () => true,
    async ({ group }) => Clipboard.copyToSystem(group)
  );
}
