import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import type { IJobRef, TaskAPIClient } from '../api/client';
import type { Job, UsageResponse } from '../api/contract';
import { hasEnded, statusOf } from '../api/contract';
import { Sparkline } from '../ui/sparkline';
import { clean, duration, number, sizeOf } from '../ui/format';

/** Milliseconds between two looks at what a running job has recorded. */
const OFTEN = 2_000;

/** Metrics that are drawn, and points that are kept of each. */
const SHOWN = 20;
const KEPT = 4_000;

/** A name's points: step, time, value. */
type Points = number[][];
type Metrics = { [name: string]: Points };

interface ISeriesProps {
  job: Job;
  ref_: IJobRef;
  client: TaskAPIClient;
  /** Asked again when the server is back. */
  connected: boolean;
  trans: TranslationBundle;
}

/** What a task recorded, and what its processes use, each as a line over time. */
export function Series(props: ISeriesProps): JSX.Element {
  return (
    <>
      <MetricsChart {...props} />
      <UsageChart {...props} />
    </>
  );
}

function MetricsChart(props: ISeriesProps): JSX.Element {
  const { job, ref_, client, trans } = props;
  const has = !!job.metrics && Object.keys(job.metrics).length > 0;
  const [found, setFound] = React.useState<Metrics>({});
  const next = React.useRef(0);
  usePoll(
    async isCurrent => {
      let before: number;
      do {
        before = next.current;
        const { metrics, next: after } = await client.metrics(ref_, before);
        if (!isCurrent()) {
          return;
        }
        next.current = after;
        if (Object.keys(metrics).length) {
          setFound(known => joined(known, metrics));
        }
      } while (next.current !== before);
    },
    has,
    props
  );
  const all = Object.entries(found).filter(([, points]) => points.length);
  if (!all.length) {
    return <></>;
  }
  return (
    <Charts title={trans.__('Metrics')}>
      {all.slice(0, SHOWN).map(([name, points]) => (
        <Metric
          key={name}
          name={clean(name, 64)}
          points={points}
          trans={trans}
        />
      ))}
      {all.length > SHOWN && (
        <p className="jp-TaskAPI-Note">
          {trans.__('Showing %1 of %2 metrics.', SHOWN, all.length)}
        </p>
      )}
    </Charts>
  );
}

const Metric = React.memo(function Metric({
  name,
  points,
  trans
}: {
  name: string;
  points: Points;
  trans: TranslationBundle;
}): JSX.Element {
  const values = points.map(([, , value]) => value);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const last = number(values[values.length - 1]);
  const line = React.useMemo(
    () => points.map(([step, , value]) => [step, value] as const),
    [points]
  );
  const label =
    values.length > 1
      ? trans.__(
          '%1: %2 points, first %3, last %4, lowest %5, highest %6',
          name,
          values.length,
          number(values[0]),
          last,
          number(least),
          number(most)
        )
      : trans.__('%1: %2', name, last);
  return (
    <div className="jp-TaskAPI-Chart">
      <span className="jp-TaskAPI-ellipsis" title={name}>
        {name}
      </span>
      <Sparkline points={line} label={label} />
      <span className="jp-TaskAPI-Chart-value">{last}</span>
    </div>
  );
});

function UsageChart(props: ISeriesProps): JSX.Element {
  const { job, ref_, client, trans } = props;
  const { usage } = job;
  const [points, setPoints] = React.useState<UsageResponse['points']>([]);
  usePoll(
    async isCurrent => {
      const answer = await client.usage(ref_);
      if (isCurrent()) {
        setPoints(answer.points);
      }
    },
    !!usage,
    props
  );
  const line = React.useMemo(
    () => points.map(([time, , memory]) => [time, memory] as const),
    [points]
  );
  const limit = usage?.memory_limit ?? undefined;
  const peak = usage?.memory_peak ?? usage?.memory ?? null;
  if (!usage || peak === null) {
    return <></>;
  }
  const words = trans.__('used %1', sizeOf(peak, limit));
  const cpu = usage.cpu_seconds;
  return (
    <Charts title={trans.__('Memory and CPU')}>
      <div className="jp-TaskAPI-Chart jp-mod-memory">
        <span>{trans.__('memory')}</span>
        {line.length > 0 ? (
          <Sparkline
            points={line}
            limit={limit}
            label={
              limit
                ? trans.__('Memory over time, up to its limit: %1', words)
                : trans.__('Memory over time: %1', words)
            }
          />
        ) : (
          <span />
        )}
        <span className="jp-TaskAPI-Chart-value">{words}</span>
      </div>
      {cpu !== undefined && (
        <div className="jp-TaskAPI-Chart jp-mod-words">
          <span>{trans.__('CPU time')}</span>
          <span className="jp-TaskAPI-Chart-value">{duration(cpu)}</span>
        </div>
      )}
    </Charts>
  );
}

function Charts({
  title,
  children
}: {
  title: string;
  children: React.ReactNode;
}): JSX.Element {
  return (
    <details className="jp-TaskAPI-Value" open>
      <summary>{title}</summary>
      <div className="jp-TaskAPI-Charts">{children}</div>
    </details>
  );
}

/** Ask for something, and again while the job runs and the page is looked at; once more when it has ended. */
function usePoll(
  ask: (isCurrent: () => boolean) => Promise<void>,
  wanted: boolean,
  { job, ref_, connected }: ISeriesProps
): void {
  const ended = hasEnded(job);
  const runs = statusOf(job) === 'running';
  React.useEffect(() => {
    let current = wanted;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      if (!document.hidden) {
        // What is wrong is said above: the job itself can't be read either, or its environment keeps none of this.
        await ask(() => current).catch(() => undefined);
      }
      if (current && runs) {
        timer = setTimeout(() => void look(), OFTEN);
      }
    };
    if (current) {
      void look();
    }
    return () => {
      current = false;
      clearTimeout(timer);
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- what is asked depends on the job alone
  }, [ref_.environment, ref_.id, wanted, ended, runs, connected]);
}

/** Return metrics with new points; of very many, every second one. */
function joined(known: Metrics, more: Metrics): Metrics {
  const all = { ...known };
  for (const [name, points] of Object.entries(more)) {
    let whole = [...(known[name] ?? []), ...points];
    while (whole.length > KEPT) {
      const last = whole.length - 1;
      whole = whole.filter((_, index) => index % 2 === 0 || index === last);
    }
    all[name] = whole;
  }
  return all;
}
