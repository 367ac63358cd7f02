import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    environment: 'jsdom',
    include: process.env.BENCH
      ? ['bench/**/*.spec.ts']
      : ['tests/**/*.spec.{ts,tsx}'],
    setupFiles: ['tests/setup.ts'],
    // One browser and one copy of JupyterLab for all files of a process: half of the time went into loading them again.
    isolate: false,
    // JupyterLab's packages import without file extensions, which Node alone would refuse.
    server: { deps: { inline: [/@jupyterlab/, /@jupyter\//, /@lumino/] } }
  }
});
