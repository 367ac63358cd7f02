"""How the HTML views look: one scoped style sheet, and a colour for each status."""

from __future__ import annotations

from taskapi_jupyter.core.states import JobCode

# Doubled class names outweigh the notebook's own table rules. Colours are the theme's where there is one.
STYLE = """<style>
.taskapi.taskapi{color:inherit;font-size:var(--jp-ui-font-size1,13px);line-height:1.45;max-width:100%;
overflow-x:auto;padding:2px 8px;text-align:left}
.taskapi.taskapi table{border-collapse:collapse;border:0;margin:4px 0;font-size:inherit;table-layout:auto;
width:auto;color:inherit;background:transparent}
.taskapi.taskapi tr,.taskapi.taskapi tbody tr:nth-child(odd),.taskapi.taskapi tbody tr:nth-child(even)
{background:transparent;border:0}
.taskapi.taskapi th,.taskapi.taskapi td{text-align:left;
vertical-align:middle;padding:3px 18px 3px 0;border:0;
border-bottom:1px solid rgba(128,128,128,.22);white-space:nowrap;color:inherit;background:transparent;
font-variant-numeric:tabular-nums;line-height:inherit}
.taskapi.taskapi th{font-weight:600;opacity:.7}
.taskapi.taskapi tbody tr:hover td{background:rgba(128,128,128,.1)}
.taskapi.taskapi .ta-kv th{font-weight:400;min-width:5.5em}
.taskapi.taskapi .ta-kv th,.taskapi.taskapi .ta-kv td{border-bottom:0;padding-top:1px;padding-bottom:1px}
.taskapi.taskapi .ta-kv td{white-space:normal;overflow-wrap:anywhere;max-width:60em}
.taskapi.taskapi .ta-n{text-align:right}
.taskapi.taskapi table+table{margin-top:14px}
.taskapi.taskapi .ta-c{display:inline-block;max-width:17em;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap;vertical-align:middle;unicode-bidi:isolate}
.taskapi.taskapi code{font-family:var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);
font-size:.94em;background:transparent;color:inherit;padding:0;border:0}
.taskapi.taskapi .ta-dim{opacity:.68}
.taskapi.taskapi .ta-id{opacity:.6}
.taskapi.taskapi .ta-s{white-space:nowrap}
.taskapi.taskapi .ta-s i{display:inline-block;box-sizing:border-box;width:.68em;height:.68em;
border-radius:50%;margin-right:.5em;border:2px solid currentColor}
.taskapi.taskapi .ta-s i.ta-full{background:currentColor}
.taskapi.taskapi .ta-head{margin:2px 0 4px;display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 14px}
.taskapi.taskapi .ta-head b{font-weight:600;unicode-bidi:isolate}
.taskapi.taskapi progress{width:12em;height:.8em;vertical-align:-.05em;
accent-color:var(--jp-brand-color1,#1976d2)}
.taskapi.taskapi progress[value]{appearance:none;border:0;border-radius:.4em;overflow:hidden;
background:rgba(128,128,128,.3)}
.taskapi.taskapi progress[value]::-webkit-progress-bar{background:rgba(128,128,128,.3)}
.taskapi.taskapi progress[value]::-webkit-progress-value{background:var(--jp-brand-color1,#1976d2)}
.taskapi.taskapi progress[value]::-moz-progress-bar{background:var(--jp-brand-color1,#1976d2)}
.taskapi.taskapi .ta-warn{margin:3px 0 3px 1.18em;max-width:70em;white-space:normal;overflow-wrap:anywhere}
.taskapi.taskapi .ta-warn span{color:var(--jp-warn-color1,#c77700);font-weight:600}
</style>"""

GREEN = "var(--jp-success-color1,var(--vscode-charts-green,#2e9d4f))"
RED = "var(--jp-error-color1,var(--vscode-charts-red,#d9363e))"
ORANGE = "var(--jp-warn-color1,var(--vscode-charts-orange,#d97706))"
BLUE = "var(--jp-brand-color1,var(--vscode-charts-blue,#1976d2))"
GREY = "rgba(128,128,128,.9)"

COLOURS = {
    JobCode.RUNNING: BLUE,
    JobCode.SUCCEEDED: GREEN,
    JobCode.TIMED_OUT: ORANGE,
    JobCode.COMPLETED_WITH_FAILURES: ORANGE,
    JobCode.WORKER_ERROR: RED,
    JobCode.WORKER_OOM: RED,
    JobCode.UNEXPECTED_ERROR: RED,
    JobCode.ENQUEUE_FAILED: RED,
}
HOLLOW = {JobCode.PENDING, JobCode.ENQUEUING, JobCode.UNKNOWN}
