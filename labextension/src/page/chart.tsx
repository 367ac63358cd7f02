import type { IRenderMime, IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import type { ReadonlyJSONObject } from '@lumino/coreutils';
import { Widget } from '@lumino/widgets';
import React from 'react';

import type { Job } from '../api/contract';
import { hasEnded } from '../api/contract';
import { refOf } from '../model/model';
import { shortId } from '../ui/format';
import type { IColumn, Value } from './columns';
import type { IPageProps } from './props';

/** What Lab draws by itself. */
const VEGA = 'application/vnd.vegalite.v5+json';

/** Points of one line, and of a chart of columns, that are drawn. */
const POINTS = 500;
const ROWS = 5_000;

/** Milliseconds between two reads of the metrics of running jobs. */
const AGAIN = 3_000;

type Point = { [name: string]: Value };

/** A chart that Lab's renderer for Vega-Lite draws. */
function Chart({
  rendermime,
  encoding,
  mark,
  points,
  label,
  trans
}: {
  rendermime: IRenderMimeRegistry;
  encoding: ReadonlyJSONObject;
  mark: ReadonlyJSONObject;
  points: readonly Point[];
  label: string;
  trans: TranslationBundle;
}): JSX.Element {
  const host = React.useRef<HTMLDivElement>(null);
  const renderer = React.useRef<IRenderMime.IRenderer | null>(null);
  const [failed, setFailed] = React.useState('');
  const [light, setLight] = React.useState(0);
  const [width, setWidth] = React.useState(0);
  const text = JSON.stringify([encoding, mark, points]);

  // Its end comes before the node is removed, which Lumino wants.
  React.useLayoutEffect(() => {
    // Lab draws in the colours of the theme, and once.
    const themes = new MutationObserver(() => setLight(count => count + 1));
    themes.observe(document.body, { attributeFilter: ['data-jp-theme-name'] });
    const room = new ResizeObserver(([{ contentRect }]) =>
      setWidth(Math.round(contentRect.width / 20) * 20)
    );
    room.observe(host.current!);
    return () => {
      themes.disconnect();
      room.disconnect();
      renderer.current?.dispose();
      renderer.current = null;
    };
  }, []);

  React.useEffect(() => {
    if (!width) {
      return;
    }
    const timer = setTimeout(() => {
      const [shown, how, values] = JSON.parse(text) as [
        ReadonlyJSONObject,
        ReadonlyJSONObject,
        Point[]
      ];
      const isNarrow = width < 560;
      const panel = host.current?.closest('.jp-TaskAPI-Compare-panel');
      const spec = {
        $schema: 'https://vega.github.io/schema/vega-lite/v5.json',
        width: Math.max(160, width - (isNarrow ? 90 : 280)), // beside it: the axis and the legend
        height: Math.min(Math.max((panel?.clientHeight ?? 0) - 130, 150), 420),
        config: {
          legend: { orient: isNarrow ? 'bottom' : 'right', columns: 1 }
        },
        background: 'transparent',
        data: { values },
        mark: how,
        encoding: shown
      };
      try {
        const before = renderer.current;
        const next = rendermime.createRenderer(VEGA);
        renderer.current = next;
        next
          .renderModel(
            rendermime.createModel({
              data: { [VEGA]: spec as unknown as ReadonlyJSONObject }
            })
          )
          .then(() => {
            if (renderer.current !== next || !host.current) {
              next.dispose();
              return; // another one was begun meanwhile
            }
            before?.dispose();
            Widget.attach(next, host.current);
            const menu = next.node.querySelector('summary');
            menu?.setAttribute('aria-label', trans.__('Save the chart'));
          })
          .catch((error: Error) => setFailed(error.message));
      } catch {
        setFailed(
          trans.__('This JupyterLab has no renderer for Vega-Lite charts.')
        );
      }
    }, 100);
    return () => clearTimeout(timer);
  }, [rendermime, text, width, light, trans]);

  return failed ? (
    <p className="jp-TaskAPI-Note">{failed}</p>
  ) : (
    <div
      ref={host}
      className="jp-TaskAPI-Page-chart"
      role="figure"
      aria-label={label}
    />
  );
}

function Choice({
  label,
  value,
  options,
  onChange
}: {
  label: string;
  value: string;
  options: readonly { value: string; label: string }[];
  onChange: (value: string) => void;
}): JSX.Element {
  return (
    <label className="jp-TaskAPI-Choice">
      <span>{label}</span>
      <HTMLSelect
        aria-label={label}
        value={value}
        options={[...options]}
        onChange={event => onChange(event.currentTarget.value)}
      />
    </label>
  );
}

/** Return what a job is called in a legend: the end of its id, and what of its config differs. */
function nameIn(job: Job, columns: readonly IColumn[], now: Date): string {
  const settings = columns
    .filter(({ id }) => id.startsWith('config.'))
    .slice(0, 3)
    .map(column => [column.label, column.text?.(job, now) ?? ''] as const)
    .filter(([, text]) => text)
    .map(([label, text]) => `${label}=${text.slice(0, 16)}`);
  return [shortId(job.job_id), ...settings].join(' ');
}

/** What the metrics of some jobs were, over their steps or time. */
export function MetricChart({
  jobs,
  model,
  source,
  state,
  rendermime,
  trans
}: IPageProps & { jobs: readonly Job[] }): JSX.Element {
  const [series, setSeries] = React.useState<{
    [id: string]: { [name: string]: number[][] };
  }>({});
  const [name, setName] = React.useState('');
  const [over, setOver] = React.useState('step');
  const [failed, setFailed] = React.useState('');
  const ids = jobs.map(job => job.job_id).join();

  React.useEffect(() => {
    const stop = new AbortController();
    const next = new Map<string, number>();
    const known: { [id: string]: { [name: string]: number[][] } } = {};
    const { environment } = source.scope;
    let timer: ReturnType<typeof setTimeout>;
    const read = async () => {
      const asked = ids.split(',').filter(id => {
        const job = source.get(id);
        return job && (!next.has(id) || !hasEnded(job));
      });
      try {
        await Promise.all(
          asked.map(async id => {
            const ref = refOf(environment, source.get(id)!);
            const since = next.get(id) ?? 0;
            const found = await model.client.metrics(ref, since, stop.signal);
            next.set(id, found.next);
            const into = (known[id] ??= {});
            for (const [one, points] of Object.entries(found.metrics)) {
              into[one] = [...(into[one] ?? []), ...points];
            }
          })
        );
        if (!stop.signal.aborted) {
          setSeries({ ...known });
          setFailed('');
        }
      } catch (error) {
        if (!stop.signal.aborted) {
          setFailed((error as Error).message);
        }
      }
      if (!stop.signal.aborted) {
        timer = setTimeout(() => void read(), AGAIN);
      }
    };
    void read();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [ids, model, source]);

  const names = [
    ...new Set(jobs.flatMap(job => Object.keys(series[job.job_id] ?? {})))
  ].sort();
  const shown = names.includes(name) ? name : names[0];
  if (!shown) {
    return (
      <p className="jp-TaskAPI-Note">
        {failed ||
          trans.__('These jobs have recorded no metrics, by metric(loss=0.3).')}
      </p>
    );
  }
  const now = new Date();
  const points = jobs.flatMap(job => {
    const all = series[job.job_id]?.[shown] ?? [];
    const every = Math.max(1, Math.ceil(all.length / POINTS));
    const begin = all[0]?.[1] ?? 0;
    return all
      .filter((_, index) => index % every === 0 || index === all.length - 1)
      .map(([step, time, value]) => ({
        x: over === 'step' ? step : time - begin,
        y: value,
        job: nameIn(job, state.columns.shown, now)
      }));
  });
  const title = over === 'step' ? trans.__('step') : trans.__('seconds');
  return (
    <>
      <div className="jp-TaskAPI-Choices">
        <Choice
          label={trans.__('Metric')}
          value={shown}
          options={names.map(value => ({ value, label: value }))}
          onChange={setName}
        />
        <Choice
          label={trans.__('Over')}
          value={over}
          options={[
            { value: 'step', label: trans.__('steps') },
            { value: 'time', label: trans.__('time') }
          ]}
          onChange={setOver}
        />
      </div>
      <Chart
        rendermime={rendermime}
        label={trans.__('%1 of %2 jobs over %3', shown, jobs.length, title)}
        mark={{ type: 'line', point: points.length < 100, tooltip: true }}
        encoding={{
          x: { field: 'x', type: 'quantitative', title },
          y: {
            field: 'y',
            type: 'quantitative',
            title: shown,
            scale: { zero: false }
          },
          color: {
            field: 'job',
            type: 'nominal',
            title: trans.__('job'),
            legend: { labelLimit: 200 }
          }
        }}
        points={points}
        trans={trans}
      />
    </>
  );
}

/** One column against another, a point a job. */
export function ColumnChart({
  jobs,
  state,
  rendermime,
  trans
}: IPageProps & { jobs: readonly Job[] }): JSX.Element {
  const [chosen, setChosen] = React.useState({ x: '', y: '', color: '' });
  const { all, shown } = state.columns;
  const some = jobs.slice(0, 200);
  const isKept = (column: IColumn) =>
    !['id', 'note', 'index'].includes(column.id) &&
    (shown.includes(column) || column.isNumber) &&
    some.some(job => column.value(job) !== null);
  const columns = all.filter(isKept);
  const numbers = columns.filter(({ isNumber }) => isNumber);
  const first = (ids: readonly string[], not?: IColumn) =>
    numbers.find(one => one !== not && ids.some(id => one.id.startsWith(id))) ??
    numbers.find(one => one !== not) ??
    columns[0];
  const find = (id: string) => columns.find(one => one.id === id);
  const y = find(chosen.y) ?? first(['metric.', 'result.']);
  const x = find(chosen.x) ?? first(['config.', 'duration'], y);
  const color = find(chosen.color);
  if (!x || !y) {
    return (
      <p className="jp-TaskAPI-Note">
        {trans.__('There are no jobs to draw.')}
      </p>
    );
  }
  const kind = (column: IColumn) =>
    column.id === 'submitted' ||
    column.id === 'started' ||
    column.id === 'ended'
      ? 'temporal'
      : jobs.every(job => {
            const value = column.value(job);
            return value === null || typeof value === 'number';
          })
        ? 'quantitative'
        : 'nominal';
  const points = jobs.slice(0, ROWS).map(job => ({
    x: x.value(job),
    y: y.value(job),
    c: color?.value(job) ?? null,
    job: `${job.api_name} ${shortId(job.job_id)}`
  }));
  const options = columns.map(({ id, label, section }) => ({
    value: id,
    label: id.includes('.') ? `${label} (${section})` : label
  }));
  const axis = (field: string, column: IColumn) => ({
    field,
    type: kind(column),
    title: column.label,
    ...(kind(column) === 'quantitative' ? { scale: { zero: false } } : {})
  });
  return (
    <>
      <div className="jp-TaskAPI-Choices">
        <Choice
          label="x"
          value={x.id}
          options={options}
          onChange={value => setChosen({ ...chosen, x: value })}
        />
        <Choice
          label="y"
          value={y.id}
          options={options}
          onChange={value => setChosen({ ...chosen, y: value })}
        />
        <Choice
          label={trans.__('Colour')}
          value={color?.id ?? ''}
          options={[{ value: '', label: trans.__('none') }, ...options]}
          onChange={value => setChosen({ ...chosen, color: value })}
        />
      </div>
      <Chart
        rendermime={rendermime}
        label={trans.__(
          '%1 over %2 of %3 jobs',
          y.label,
          x.label,
          points.length
        )}
        mark={{ type: 'point', filled: true, size: 60 }}
        encoding={{
          x: axis('x', x),
          y: axis('y', y),
          ...(color
            ? { color: { field: 'c', type: kind(color), title: color.label } }
            : {}),
          tooltip: [
            { field: 'job', type: 'nominal', title: trans.__('job') },
            { field: 'x', type: kind(x), title: x.label },
            { field: 'y', type: kind(y), title: y.label }
          ]
        }}
        points={points}
        trans={trans}
      />
    </>
  );
}
