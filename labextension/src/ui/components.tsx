import type { TranslationBundle } from '@jupyterlab/translation';
import type { LabIcon } from '@jupyterlab/ui-components';
import {
  Button,
  checkIcon,
  circleEmptyIcon,
  errorIcon,
  historyIcon,
  stopIcon
} from '@jupyterlab/ui-components';
import type { ISignal } from '@lumino/signaling';
import React from 'react';

/** Return a status in words; colour is never the only sign. */
export function statusLabel(status: string, trans: TranslationBundle): string {
  switch (status) {
    case 'pending':
      return trans.__('pending');
    case 'running':
      return trans.__('running');
    case 'succeeded':
      return trans.__('succeeded');
    case 'worker_error':
      return trans.__('worker error');
    case 'worker_oom':
      return trans.__('out of memory');
    case 'timed_out':
      return trans.__('timed out');
    case 'stopped':
      return trans.__('stopped');
    case 'unexpected_error':
      return trans.__('unexpected error');
    default:
      return status.replace(/_/g, ' ');
  }
}

const ICONS: { [status: string]: LabIcon } = {
  pending: circleEmptyIcon,
  succeeded: checkIcon,
  timed_out: historyIcon,
  stopped: stopIcon
};

/** A status as an icon; its word belongs beside it. */
export function StatusIcon({
  status,
  stale = false
}: {
  status: string;
  /** Whether it is the last known status of an unreachable cluster. */
  stale?: boolean;
}): JSX.Element {
  const className = `jp-TaskAPI-StatusIcon jp-mod-${status.replace(/_/g, '-')} ${stale ? 'jp-mod-stale' : ''}`;
  if (status === 'running') {
    return (
      <span aria-hidden="true" className={`${className} jp-TaskAPI-Spinner`} />
    );
  }
  const icon = ICONS[status] ?? errorIcon;
  return (
    <span aria-hidden="true" className={className}>
      <icon.react tag="span" width="14px" height="14px" />
    </span>
  );
}

/** A button that is an icon; its label is its tooltip, and what a screen reader says. */
export function IconButton({
  icon,
  label,
  className = '',
  ...others
}: {
  icon: LabIcon;
  label: string;
} & React.ButtonHTMLAttributes<HTMLButtonElement>): JSX.Element {
  return (
    <Button
      minimal
      small
      type="button"
      title={label}
      aria-label={label}
      className={`jp-TaskAPI-IconButton ${className}`}
      {...others}
    >
      <icon.react tag="span" width="16px" height="16px" aria-hidden="true" />
    </Button>
  );
}

/** A button with an icon and its label beside it. */
export function ActionButton({
  icon,
  label,
  caption,
  onClick
}: {
  icon: LabIcon;
  label: string;
  /** What it does, where its label does not say so. */
  caption?: string;
  onClick: () => void;
}): JSX.Element {
  return (
    <button
      type="button"
      className="jp-Button jp-mod-small jp-TaskAPI-Action"
      title={caption}
      onClick={onClick}
    >
      <icon.react tag="span" width="16px" height="16px" aria-hidden="true" />
      {label}
    </button>
  );
}

/** Draw again when a signal is emitted, at most once a frame. */
export function useSignal<S>(signal: ISignal<S, unknown>): void {
  const [, draw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    let frame = 0;
    const onEmit = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw();
      });
    };
    signal.connect(onEmit);
    draw(); // what was emitted between the first drawing and here
    return () => {
      signal.disconnect(onEmit);
      cancelAnimationFrame(frame);
    };
  }, [signal]);
}

/** Return the time, again each second (while something runs) or each half minute. */
export function useNow(lively: boolean): Date {
  const [now, setNow] = React.useState(() => new Date());
  React.useEffect(() => {
    setNow(new Date());
    const timer = setInterval(
      () => {
        if (!document.hidden) {
          setNow(new Date());
        }
      },
      lively ? 1_000 : 20_000
    );
    return () => clearInterval(timer);
  }, [lively]);
  return now;
}

/**
 * Follow which rows of a scrolled list are in view: so many are there in it from the first one on, and one more.
 *
 * @param row pixels; every row has this height.
 * @param step rows by which the first one moves.
 * @returns what is in view, and what looks again.
 */
export function useView(
  scroller: React.RefObject<HTMLElement>,
  row: number,
  step = 1
): [{ first: number; count: number }, () => void] {
  const [view, setView] = React.useState({ first: 0, count: 40 });
  const measure = React.useCallback(() => {
    if (!scroller.current) {
      return; // the list was removed while it was scrolled
    }
    const { scrollTop, clientHeight } = scroller.current;
    const first = Math.floor(scrollTop / row / step) * step;
    const count = Math.ceil((clientHeight || 600) / row) + step;
    setView(last =>
      last.first === first && last.count === count ? last : { first, count }
    );
  }, [scroller, row, step]);
  React.useEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(scroller.current!);
    measure();
    return () => observer.disconnect();
  }, [scroller, measure]);
  return [view, measure];
}

/** Return what was just done, for a moment, and how to say it. */
export function useFlash(): [string | null, (what: string) => void] {
  const [what, setWhat] = React.useState<string | null>(null);
  React.useEffect(() => {
    if (what !== null) {
      const timer = setTimeout(() => setWhat(null), 1_500);
      return () => clearTimeout(timer);
    }
    return undefined;
  }, [what]);
  return [what, setWhat];
}

/** Have the browser save something. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // once the browser has taken it
}

/** Return a JSON value as text to read. */
export function pretty(value: unknown): string {
  return JSON.stringify(value, null, 2) ?? '';
}
