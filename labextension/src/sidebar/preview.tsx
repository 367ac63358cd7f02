import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';
import React from 'react';

export const SVG = 'image/svg+xml';

/** Return an SVG as the URL of an image: in a tab of its own, it is of no origin, so that its scripts reach nothing. */
export function svgURL(svg: string): string {
  const text = svg.replace(/[\ud800-\udfff]/gu, '\ufffd'); // halves of characters can't be in a URL
  return `data:${SVG};charset=utf-8,${encodeURIComponent(text)}`;
}

/**
 * What a pickled result looks like. A task made it, so it is not to be trusted: Lab's renderers sanitize it, and SVG
 * is an image, in which no script runs and nothing is loaded.
 */
export function Preview({
  data,
  rendermime,
  trans
}: {
  data: { [media: string]: string };
  rendermime: IRenderMimeRegistry;
  trans: TranslationBundle;
}): JSX.Element {
  const host = React.useRef<HTMLDivElement>(null);
  const { [SVG]: svg, ...others } = data;
  const media = rendermime.preferredMimeType(others, 'ensure');
  const isImage = svg !== undefined && (!media || media === 'text/plain');
  const label = trans.__('Result');

  // As layout: a widget can be disposed of only while it is in the page.
  React.useLayoutEffect(() => {
    if (isImage || !media) {
      return;
    }
    const renderer = rendermime.createRenderer(media);
    const model = rendermime.createModel({ data: others, trusted: false });
    Widget.attach(renderer, host.current!);
    renderer.renderModel(model).then(
      // A corner of a table is no header: pandas leaves it empty.
      () =>
        renderer.node
          .querySelectorAll('th:empty')
          .forEach(one => one.replaceWith(document.createElement('td'))),
      (reason: unknown) =>
        console.warn('The preview of a result can’t be shown.', reason)
    );
    return () => renderer.dispose();
    // eslint-disable-next-line react-hooks/exhaustive-deps -- an answer is another object
  }, [data, rendermime]);

  return (
    <div
      className="jp-TaskAPI-Preview"
      role="region"
      aria-label={label}
      tabIndex={0}
      ref={host}
    >
      {isImage && <img alt={label} src={svgURL(svg)} />}
    </div>
  );
}
