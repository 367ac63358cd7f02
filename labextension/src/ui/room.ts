import type { Widget } from '@lumino/widgets';
import { SplitPanel, TabPanel } from '@lumino/widgets';

/** Pixels of a panel's height that are too few for a tab. */
const LOW = 200;

/** Show a tab in front of others of its panel, which gets a good part of the page where it has next to nothing. */
export function makeRoom(tab: Widget): void {
  const tabs = tab.parent?.parent;
  if (tabs instanceof TabPanel) {
    tabs.currentWidget = tab;
  }
  let panel: Widget | null = tab;
  while (panel && !(panel.parent instanceof SplitPanel)) {
    panel = panel.parent;
  }
  if (panel && panel.node.clientHeight < LOW) {
    (panel.parent as SplitPanel).setRelativeSizes([3, 2]);
  }
}
