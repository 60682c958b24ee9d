import { expect, test } from 'vitest'
import { blockAt, inlineAt, nextIn } from './math'

const tex = (text: string) => inlineAt(text)?.tex

test('a formula between dollar signs', () => {
  expect(tex('$x^2$')).toBe('x^2')
  expect(tex('$x$ and $y$')).toBe('x')
  expect(tex('$5$')).toBe('5')
  expect(tex('$2x + 3$, so')).toBe('2x + 3')
  expect(tex('$\\$5$')).toBe('\\$5')
  expect(tex('\\(a + b\\)')).toBe('a + b')
})

test.each(['$5 and $10', '$5 or $10 each', '$5-$10', '$20k–$30k.', 'a $5', '$ x $', '$x $', '$5, then 6$', '$', '$$', '$a\nb$'])(
  'money and stray signs are text: %j',
  (text) => {
    expect(tex(text)).toBeUndefined()
  },
)

test('code is no formula', () => {
  expect(tex('$a `b$` c')).toBeUndefined()
  expect(tex('\\(a `b\\)` c')).toBeUndefined()
})

test('displayed formulas', () => {
  expect(blockAt('$$\nx = 1\n$$\nmore')).toEqual({ raw: '$$\nx = 1\n$$', tex: 'x = 1', display: true })
  expect(blockAt('\\[ x \\]')?.tex).toBe('x')
  expect(blockAt('$$x$$ in a line')).toBeUndefined()
  expect(inlineAt('$$x$$ in a line')).toMatchObject({ tex: 'x', display: true })
  expect(blockAt('\\begin{align*}\na &= b \\\\\nc &= d\n\\end{align*}')?.tex).toContain('c &= d')
  expect(blockAt('$$ open')).toBeUndefined()
})

test('the next place to look', () => {
  expect(nextIn('see \\(x\\)')).toBe(4)
  expect(nextIn('nothing')).toBe(-1)
})
