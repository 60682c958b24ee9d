import { expect, test } from 'vitest'

// The sources themselves: what they look like, and what may import what.
const all: Record<string, string> = import.meta.glob(['../**/*.{svelte,ts,css}', '!../**/*.test.ts'], { query: '?raw', import: 'default', eager: true })
const sources = Object.entries(all).map(([path, text]) => ({ path: path.replace('../', '').replace('./', 'lib/'), text }))
const styles = sources.flatMap(({ path, text }) => (path.endsWith('.css') ? [{ path, css: text }] : (/<style>([\s\S]*)<\/style>/.exec(text) ?? []).slice(1).map((css) => ({ path, css }))))

/** The values of some properties that break a rule, each with its place. */
function broken(property: RegExp, allowed: (value: string) => boolean): string[] {
  return styles.flatMap(({ path, css }) =>
    [...css.matchAll(/^\s*([a-z-]+):\s*([^;]+);/gm)]
      .filter(([, name]) => property.test(name!))
      .flatMap(([, name, value]) => value!.replace(/calc\(.*\)/, '').split(/\s+/).filter((each) => !allowed(each)).map((each) => `${path}: ${name}: ${each}`)),
  )
}

test('distances are multiples of 4, but for hairlines', () => {
  const pixels = (value: string): number => (value.endsWith('px') ? Number.parseFloat(value) : 0)
  expect(broken(/^(padding|margin|gap|row-gap|column-gap)/, (value) => pixels(value) % 4 === 0 || Math.abs(pixels(value)) === 1)).toEqual([])
})

test('few sizes, two weights, two radii', () => {
  const among = (...values: string[]) => (value: string) => values.includes(value) || value.startsWith('var(') || value === 'inherit'
  expect(broken(/^font-size$/, among('13px', '15px', '16px', '18px', '24px'))).toEqual([]) // 16: of fields, which a phone else enlarges
  expect(broken(/^font-weight$/, among('400', '600'))).toEqual([])
  expect(broken(/^border-radius$/, among('0', '4px', '8px', '12px', '50%'))).toEqual([]) // 4: of what stands in a line of text
})

test('motion takes 150 ms at most', () => {
  expect(broken(/^transition/, (value) => !/^[\d.]+m?s$/.test(value) || ['0.15s', '150ms'].includes(value))).toEqual([])
})

test('one file fetches, components ask the state, pure modules know neither', () => {
  const imports = sources.map(({ path, text }) => ({ path, from: [...text.matchAll(/^\s*import (?!type)[^'\n]*'(\.[^']+)'/gm)].map((found) => found[1]!.split('/').at(-1)!) }))
  const using = (which: RegExp, what: RegExp): string[] => imports.filter(({ path, from }) => which.test(path) && from.some((each) => what.test(each))).map(({ path }) => path)
  expect(sources.filter(({ text }) => /\bfetch\(/.test(text)).map(({ path }) => path)).toEqual(['lib/api.ts'])
  expect(using(/\.svelte$/, /^(api|sse|feed|storage)$/)).toEqual([])
  expect(using(/^lib\/[a-z]+\.ts$/, /\.svelte$/)).toEqual([])
})
