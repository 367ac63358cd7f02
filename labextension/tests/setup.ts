// What JupyterLab's packages expect of a browser and jsdom does not have.
class Nothing {
  observe(): void {}
  unobserve(): void {}
  disconnect(): void {}
}

Object.assign(globalThis, {
  DragEvent: class DragEvent extends MouseEvent {},
  ResizeObserver: Nothing,
  IntersectionObserver: Nothing
});
