import { Clipboard, Notification } from '@jupyterlab/apputils';

import type { Job } from '../api/contract';
import { hasEnded } from '../api/contract';
import { attempt, STAYS } from '../commands';
import { refOf } from '../model/model';
import { ask } from '../ui/ask';
import { csvOf } from './columns';
import type { IPageProps } from './props';

/** Requests that are sent at a time. */
const AT_A_TIME = 6;

/** Rows beyond which a copy would be too large for a clipboard. */
const COPIED = 16 << 20;

type Acting = Pick<IPageProps, 'model' | 'source' | 'state' | 'trans'>;

/** Stop jobs, after a question where they are several; those that wait first: else they start meanwhile. */
export async function stopJobs(
  page: Acting,
  jobs: readonly Job[]
): Promise<void> {
  const { trans } = page;
  const going = jobs.filter(job => !hasEnded(job)).reverse();
  const sure =
    going.length < 2 ||
    (await ask(
      trans.__('Stop %1 jobs?', going.length),
      trans.__('All of their processes are stopped.'),
      trans.__('Stop')
    ));
  if (sure) {
    await each(page, going, 'stop');
  }
}

/** Submit the configs of jobs again, after a question where they are several. */
export async function rerunJobs(
  page: Acting,
  jobs: readonly Job[]
): Promise<void> {
  const { trans } = page;
  const sure =
    jobs.length < 2 ||
    (await ask(
      trans.__('Rerun %1 jobs?', jobs.length),
      trans.__('Each is submitted again, with the same config.'),
      trans.__('Rerun')
    ));
  if (sure) {
    await each(page, [...jobs].reverse(), 'rerun'); // the oldest first, as they were submitted
  }
}

/** Delete those of some jobs that have ended, after a question that says how many. */
export async function deleteJobs(
  page: Acting,
  jobs: readonly Job[]
): Promise<void> {
  const { trans } = page;
  const ended = jobs.filter(hasEnded);
  const left = jobs.length - ended.length;
  if (!ended.length || !page.model.keeps(page.source.scope.environment)) {
    return;
  }
  const body = trans.__('Logs, results and files are deleted, too.');
  const sure = await ask(
    trans._n('Delete %1 job?', 'Delete %1 jobs?', ended.length),
    left
      ? `${trans._n('%1 that is in progress stays.', '%1 that are in progress stay.', left)} ${body}`
      : body,
    trans.__('Delete')
  );
  if (sure) {
    await each(page, ended, 'delete');
  }
}

/** Copy rows, the chosen ones or all that are shown. */
export function copyRows({ state, trans }: Acting): void {
  const rows = state.selected.size > 1 ? state.chosen : state.shown;
  const text = csvOf(rows, state.columns.shown);
  if (text.length > COPIED) {
    Notification.warning(
      trans.__('The table is too large for the clipboard: filter it first.'),
      { autoClose: STAYS }
    );
    return;
  }
  Clipboard.copyToSystem(text);
  Notification.success(
    trans._n('Copied %1 row as CSV.', 'Copied %1 rows as CSV.', rows.length),
    { autoClose: 3_000 }
  );
}

/** Submit those jobs of the page's group that failed as a new group; return its id. */
export async function rerunFailed({
  model,
  source
}: Acting): Promise<string | null> {
  const { group, scope } = source;
  let made: string | null = null;
  await attempt(async () => {
    if (group) {
      const answer = await model.client.rerunGroup({
        environment: scope.environment,
        group: group.id
      });
      made = answer.group.id;
    }
  });
  return made;
}

/** Stop the page's group, after a question that says how many jobs that are. */
export async function stopGroup({
  model,
  source,
  trans
}: Acting): Promise<void> {
  const { group, scope } = source;
  if (!group) {
    return;
  }
  const going = (group.counts.running ?? 0) + (group.counts.pending ?? 0);
  const sure = await ask(
    trans._n('Stop %1 job?', 'Stop %1 jobs?', going),
    trans.__('All jobs of this group that are in progress are stopped.'),
    trans.__('Stop')
  );
  if (sure) {
    await attempt(async () => {
      await model.client.stopGroup({
        environment: scope.environment,
        group: group.id
      });
      await source.load();
    });
  }
}

/** Act on jobs, some at a time; then say how many failed, and why. */
async function each(
  { model, source, state, trans }: Acting,
  jobs: readonly Job[],
  what: 'stop' | 'rerun' | 'delete'
): Promise<void> {
  const { environment } = source.scope;
  const left = [...jobs];
  const failures: Error[] = [];
  const again: string[] = [];
  const work = async () => {
    for (let job = left.shift(); job; job = left.shift()) {
      const ref = refOf(environment, job);
      try {
        if (what === 'stop') {
          await model.client.stop(ref);
        } else if (what === 'rerun') {
          again.push((await model.client.rerun(ref)).job_id);
        } else {
          await model.client.forget(ref);
          source.drop(job.job_id);
          model.jobs(environment).drop(job.job_id);
        }
      } catch (error) {
        failures.push(error as Error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
  source.touch(what === 'rerun' ? again : jobs.map(job => job.job_id));
  if (what === 'rerun' && again.length) {
    state.set({ selected: new Set(again) });
  }
  if (failures.length) {
    const [{ message }] = failures;
    Notification.error(
      jobs.length === 1
        ? message
        : trans.__(
            '%1 of %2 failed: %3',
            failures.length,
            jobs.length,
            message
          ),
      { autoClose: STAYS }
    );
  }
}
