import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'

const api = ['/v1', '/models', '/props', '/health', '/tokenize', '/metrics', '/requests', '/activity', '/logs', '/admin', '/api']

/** Every browser that runs these pages reads woff2. */
const onlyWoff2 = {
  name: 'only-woff2',
  enforce: 'pre' as const,
  transform(code: string, id: string) {
    if (id.includes('katex') && id.includes('.css')) return code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\("(?:woff|truetype)"\)/g, '')
  },
}

// `--mode gallery` builds the page with every component in every state, for the tests.
export default defineConfig(({ mode }) => ({
  base: './', // any sub-path works unchanged
  plugins: [onlyWoff2, svelte()],
  build: {
    outDir: '../static',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0, // the pages' policy allows no data: fonts
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: { input: mode === 'gallery' ? 'gallery.html' : 'index.html', checks: { pluginTimings: false } },
  },
  server: { proxy: Object.fromEntries(api.map((path) => [path, 'http://127.0.0.1:8080'])) },
  test: { include: ['src/**/*.test.ts'] },
}))
