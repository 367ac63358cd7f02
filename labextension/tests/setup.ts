// What JupyterLab's packages expect of a browser and jsdom does not have.
class Nothing {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}

Object.assign(globalThis, {
  DragEvent: class DragEvent extends MouseEvent {},
  ResizeObserver: Nothing,
  IntersectionObserver: Nothing,
  requestIdleCallback: (act: () => void) => setTimeout(act),
  cancelIdleCallback: (id: number) => clearTimeout(id),
  matchMedia: () => ({
    matches: false,
    addListener: () => {},
    addEventListener: () => {}
  })
});

Element.prototype.scrollIntoView = () => {};
