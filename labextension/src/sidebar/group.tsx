import type { TranslationBundle } from '@jupyterlab/translation';
import {
  caretDownIcon,
  caretRightIcon,
  deleteIcon,
  refreshIcon,
  spreadsheetIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import type { CommandRegistry } from '@lumino/commands';
import React from 'react';

import type { Group, ITally } from '../api/contract';
import { goingOf, tallyOf } from '../api/contract';
import type { Filter, Jobs } from '../model/jobs';
import { CommandIDs } from '../tokens';
import { IconButton, useSignal } from '../ui/components';
import { age, clean, duration, moment, shortId } from '../ui/format';
import { groupSecondsLeft } from './entries';

/** Milliseconds without another letter until the jobs of a group are searched. */
const TYPING = 250;

/** The kinds of states, in the order in which a bar shows them. */
const KINDS: readonly (keyof ITally)[] = [
  'succeeded',
  'failed',
  'stopped',
  'running',
  'pending'
];

/** Return what a group is called: its name, else its id. */
export function groupName(group: Group, limit?: number): string {
  return clean(group.name || group.id, limit);
}

/** Say how far a group is, as the package's own `display/` does: `9/12 · 2 running · 1 failed`. */
export function groupWords(group: Group, trans: TranslationBundle): string {
  const tally = tallyOf(group);
  const total = KINDS.reduce((sum, kind) => sum + tally[kind], 0);
  const { running, failed, stopped } = tally;
  return [
    `${total - goingOf(group)}/${total}`,
    running && trans.__('%1 running', running),
    failed && trans.__('%1 failed', failed),
    stopped && trans.__('%1 stopped', stopped)
  ]
    .filter(Boolean)
    .join(' · ');
}

/** Say how many jobs of a group are in each kind of states. */
function tallyWords(tally: ITally, trans: TranslationBundle): string {
  const words: { [kind in keyof ITally]: string } = {
    succeeded: trans.__('%1 succeeded', tally.succeeded),
    failed: trans.__('%1 failed', tally.failed),
    stopped: trans.__('%1 stopped', tally.stopped),
    running: trans.__('%1 running', tally.running),
    pending: trans.__('%1 pending', tally.pending)
  };
  return KINDS.filter(kind => tally[kind])
    .map(kind => words[kind])
    .join(', ');
}

interface IPlace {
  index: number;
  count: number;
  /** Pixels from the beginning of the list. */
  top: number;
}

interface IGroupRowProps extends IPlace {
  group: Group;
  open: boolean;
  /** Whether it can be deleted once it has ended. */
  keeps: boolean;
  environment: string;
  reachable: boolean;
  now: Date;
  commands: CommandRegistry;
  trans: TranslationBundle;
  /** Whether its buttons are there: icons for rows that fly by would cost frames. */
  acted: boolean;
  onToggle: (id: string) => void;
}

/** A group, however many jobs it has: its name, how far it is, and what can be done with it. */
export const GroupRow = React.memo(function GroupRow(
  props: IGroupRowProps
): JSX.Element {
  const { group, open, keeps, environment, index, count, top } = props;
  const { reachable, now, commands, trans, acted, onToggle } = props;
  const tally = tallyOf(group);
  const going = goingOf(group) > 0;
  const name = groupName(group, 80);
  const words = groupWords(group, trans);
  const left = going ? groupSecondsLeft(group, now) : null;
  const tabIndex = reachable ? 0 : -1;
  const run = (command: string) => () =>
    void commands.execute(command, { environment, group: group.id });
  const caret = open ? caretDownIcon : caretRightIcon;
  const api = clean(group.api_name, 80);
  const title = [
    `${name} · ${clean(group.id)}`,
    api,
    clean(group.notebook ?? ''),
    tallyWords(tally, trans),
    left === null ? '' : trans.__('about %1 left', duration(left))
  ];
  return (
    <li
      className={`jp-TaskAPI-Group ${open ? 'jp-mod-open' : ''}`}
      style={{ top }}
      aria-posinset={index + 1}
      aria-setsize={count}
      data-group-id={group.id}
      data-environment={environment}
    >
      <button
        type="button"
        className="jp-TaskAPI-Job-main"
        tabIndex={tabIndex}
        aria-expanded={open}
        title={title.filter(Boolean).join('\n')}
        onClick={() => onToggle(group.id)}
      >
        <span className="jp-TaskAPI-Group-caret" aria-hidden="true">
          <caret.react tag="span" width="18px" height="18px" />
        </span>
        <span className="jp-TaskAPI-Job-name">
          <span className="jp-TaskAPI-ellipsis">{group.name ? name : api}</span>
          <span className="jp-TaskAPI-ellipsis jp-TaskAPI-faint">
            {group.name ? api : `g${shortId(group.id)}`}
          </span>
        </span>
        <span className="jp-TaskAPI-Job-age jp-TaskAPI-faint">
          {age(moment(group.created_time), now)}
        </span>
        <span className="jp-TaskAPI-Job-state">
          <span className="jp-TaskAPI-ellipsis">{words}</span>
        </span>
        <span
          className={`jp-TaskAPI-Job-took jp-TaskAPI-faint ${going ? 'jp-mod-share' : ''}`}
        >
          {going
            ? `${Math.floor(100 * group.progress)} %`
            : duration(spanOf(group))}
        </span>
        <GroupBar tally={tally} trans={trans} />
      </button>
      {acted && (
        <span className="jp-TaskAPI-Job-actions">
          {commands.hasCommand(CommandIDs.openJobs) && (
            <IconButton
              icon={spreadsheetIcon}
              label={trans.__('Open the table of %1', name)}
              tabIndex={tabIndex}
              onClick={run(CommandIDs.openJobs)}
            />
          )}
          {tally.failed + tally.stopped > 0 && (
            <IconButton
              icon={refreshIcon}
              label={trans.__('Rerun failed jobs of %1', name)}
              tabIndex={tabIndex}
              onClick={run(CommandIDs.rerunGroup)}
            />
          )}
          {going ? (
            <IconButton
              icon={stopIcon}
              label={trans.__('Stop %1', name)}
              tabIndex={tabIndex}
              onClick={run(CommandIDs.stopGroup)}
            />
          ) : (
            keeps && (
              <IconButton
                icon={deleteIcon}
                label={trans.__('Delete %1…', name)}
                tabIndex={tabIndex}
                onClick={run(CommandIDs.deleteGroup)}
              />
            )
          )}
        </span>
      )}
    </li>
  );
});

/** How many jobs are in each kind of states, as a bar; colour is never the only sign. */
export function GroupBar({
  tally,
  trans
}: {
  tally: ITally;
  trans: TranslationBundle;
}): JSX.Element {
  return (
    <span
      className="jp-TaskAPI-Group-bar"
      role="img"
      aria-label={tallyWords(tally, trans)}
    >
      {KINDS.map(
        kind =>
          tally[kind] > 0 && (
            <span
              key={kind}
              className={`jp-mod-${kind}`}
              style={{ flexGrow: tally[kind] }}
            />
          )
      )}
    </span>
  );
}

/** Jobs of an open group that are yet to be read, which they are as this comes into view. */
export function MoreRow({
  jobs,
  filter,
  index,
  count,
  top,
  trans
}: IPlace & {
  jobs: Jobs;
  filter: Filter;
  trans: TranslationBundle;
}): JSX.Element {
  useSignal(jobs.changed);
  const wanted = JSON.stringify(filter);
  const read = jobs.readUpTo(filter);
  const failed = jobs.error !== null;
  React.useEffect(() => {
    const asked = JSON.parse(wanted) as Filter;
    const pause = asked.search && read < 0 ? TYPING : 0;
    const timer = setTimeout(() => void jobs.older(asked), pause);
    return () => clearTimeout(timer);
  }, [jobs, wanted, read, failed]); // again once the server answers again
  return (
    <li
      className="jp-TaskAPI-Group-more jp-TaskAPI-faint"
      style={{ top }}
      aria-posinset={index + 1}
      aria-setsize={count}
      aria-level={2}
    >
      {failed ? trans.__('Not loaded yet') : trans.__('Loading…')}
    </li>
  );
}

/** Return the seconds from a group's submission to the end of its last job; null while jobs are in progress. */
function spanOf(group: Group): number | null {
  const [begun, ended] = [moment(group.created_time), moment(group.end_time)];
  return begun && ended
    ? Math.max((ended.getTime() - begun.getTime()) / 1000, 0)
    : null;
}
