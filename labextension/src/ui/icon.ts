import { LabIcon } from '@jupyterlab/ui-components';

/** A list of jobs, the first of which runs. */
export const taskAPIIcon = new LabIcon({
  name: 'taskapi-jupyter:jobs',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M3 3.5v7l6-3.5z"/>
    <path d="M11 6h10v2H11zM3 13h18v2H3zM3 18h12v2H3z"/>
  </g>
</svg>`
});

/** A clock, for what runs again and again. */
export const scheduleIcon = new LabIcon({
  name: 'taskapi-jupyter:schedule',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M12 2.5a9.5 9.5 0 1 0 0 19 9.5 9.5 0 0 0 0-19zm0 2a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15z"/>
    <path d="M11 7h2v4.6l3.4 3.4-1.4 1.4-4-4z"/>
  </g>
</svg>`
});
