import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import type { IPreviewQuery } from '../api/client';
import type { SchedulePreview } from '../api/contract';
import { clean } from '../ui/format';
import type { IScheduleForm } from './form';
import { scheduleFieldIn, scheduleText } from './form';
import { wall, wallHere, whenWords, zoneHere } from './words';

/** Milliseconds without another letter until the server is asked. */
const TYPING = 300;

/** Times that are shown. */
const SHOWN = 5;

/** Asks the server when a schedule would fire. */
export type AskPreview = (query: IPreviewQuery) => Promise<SchedulePreview>;

/** What is known of when it would fire. */
export interface IPreviewed {
  preview?: SchedulePreview;
  /** Why it never would, and the field that this is about. */
  wrong?: string;
  field?: string;
}

/** Ask when a schedule would fire, each time that another is typed. */
export function usePreview(form: IScheduleForm, ask: AskPreview): IPreviewed {
  const [known, setKnown] = React.useState<IPreviewed>({});
  const asked = React.useRef(ask);
  asked.current = ask;
  const { timezone, until } = form;
  const schedule = scheduleText(form);
  React.useEffect(() => {
    if (!schedule) {
      setKnown({});
      return;
    }
    let current = true;
    const timer = setTimeout(() => {
      const query: IPreviewQuery = { schedule, timezone, count: SHOWN };
      asked
        .current(until ? { ...query, until } : query)
        .then(
          (preview): IPreviewed => ({ preview }),
          (error): IPreviewed => {
            const wrong =
              error instanceof Error ? error.message : String(error);
            const field = scheduleFieldIn(wrong);
            const isOurs = field === 'timezone' || field === 'until';
            return { wrong, field: isOurs ? field : 'when' };
          }
        )
        .then(known => current && setKnown(known));
    }, TYPING);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [schedule, timezone, until]);
  return known;
}

/** When it would fire next, as clocks there and here show it; there is room for it from the beginning. */
export function Preview({
  known: { preview },
  trans
}: {
  known: IPreviewed;
  trans: TranslationBundle;
}): JSX.Element {
  const here = zoneHere();
  const isElsewhere =
    !!preview && preview.times.some(one => wall(one) !== wallHere(one));
  return (
    <div className="jp-TaskAPI-Preview" role="status">
      {preview && (
        <>
          <div>{whenWords(preview)}</div>
          <table>
            <thead>
              <tr>
                <th scope="col">
                  {trans.__('Next in %1', clean(preview.timezone, 60))}
                </th>
                {isElsewhere && (
                  <th scope="col">{trans.__('Here, in %1', here)}</th>
                )}
              </tr>
            </thead>
            <tbody>
              {preview.times.map(one => (
                <tr key={one}>
                  <td>
                    <time dateTime={one}>{wall(one)}</time>
                  </td>
                  {isElsewhere && <td>{wallHere(one)}</td>}
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </div>
  );
}
