import React from 'react';

/** Points that are drawn; of more, those are left out between which the line is. */
const DRAWN = 240;

const WIDTH = 100;
const HEIGHT = 24;

/** A small line chart. Its label says all that is to be seen: it is an image. */
export function Sparkline({
  points,
  limit,
  label
}: {
  points: readonly (readonly [x: number, y: number])[];
  /** A line that may be reached, drawn across, to which the chart is scaled. */
  limit?: number;
  label: string;
}): JSX.Element {
  const path = React.useMemo(() => pathOf(points, limit), [points, limit]);
  return (
    <svg
      className="jp-TaskAPI-Sparkline"
      viewBox={`0 -2 ${WIDTH} ${HEIGHT + 4}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={label}
    >
      <title>{label}</title>
      {limit !== undefined && (
        <line className="jp-mod-limit" x1={0} x2={WIDTH} y1={0} y2={0} />
      )}
      <path d={path} />
    </svg>
  );
}

/** Return the line through some points; through a single one, across. */
function pathOf(
  points: readonly (readonly [number, number])[],
  limit?: number
): string {
  const shown = thinned(points.filter(point => point.every(Number.isFinite)));
  const [xs, ys] = [0, 1].map(axis => shown.map(point => point[axis]));
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const low = limit === undefined ? Math.min(...ys) : 0;
  const high = limit === undefined ? Math.max(...ys) : Math.max(limit, ...ys);
  const at = ([x, y]: readonly [number, number]) => [
    right > left ? (WIDTH * (x - left)) / (right - left) : 0,
    high > low ? HEIGHT * (1 - (y - low) / (high - low)) : HEIGHT / 2
  ];
  const placed = shown.map(at).map(pair => pair.map(one => one.toFixed(2)));
  const line = placed.map(pair => pair.join(' ')).join('L');
  return placed.length && right === left
    ? `M${line}L${WIDTH} ${placed[placed.length - 1][1]}`
    : line && `M${line}`;
}

/** Return the lowest and the highest of each few points, in order; all of them where there are few. */
function thinned<P extends readonly [number, number]>(
  points: readonly P[]
): readonly P[] {
  if (points.length <= DRAWN) {
    return points;
  }
  const each = Math.ceil((2 * points.length) / DRAWN);
  const kept: P[] = [];
  for (let from = 0; from < points.length; from += each) {
    const part = points.slice(from, from + each);
    const by = (a: P, b: P) => a[1] - b[1];
    const sorted = [...part].sort(by);
    const ends = [sorted[0], sorted[sorted.length - 1]];
    kept.push(...part.filter(point => ends.includes(point)));
  }
  return kept;
}
