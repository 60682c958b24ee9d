import { expect, test } from 'vitest'
import { blocks, closed, definitions } from './markdown'

const TEXT = `# Title

A paragraph
of two lines.

- one

  more of one

- two

\`\`\`\`js
const a = 1

\`\`\`
still code
\`\`\`\`

| a | b |
|---|---|
| 1 | 2 |

1. first

2. second

$$
a

= b
$$

The end.`

test('joined, the blocks are the text, and each is one thing', () => {
  const found = blocks(TEXT)
  expect(found.join('')).toBe(TEXT)
  expect(found.map((block) => block.trim().split('\n')[0])).toEqual([
    '# Title',
    'A paragraph',
    '- one',
    '````js',
    '| a | b |',
    '1. first',
    '$$',
    'The end.',
  ])
})

test('while text streams in, finished blocks never change', () => {
  let before: string[] = []
  for (let end = 1; end <= TEXT.length; end++) {
    const now = blocks(TEXT.slice(0, end))
    expect(now.slice(0, before.length - 1)).toEqual(before.slice(0, -1))
    before = now
  }
})

test('an endless paragraph is cut where it stays cut', () => {
  const text = 'word '.repeat(5000).trimEnd()
  const found = blocks(text)
  expect(found.join('')).toBe(text)
  expect(Math.max(...found.map((block) => block.length))).toBeLessThan(8100)
  let before: string[] = []
  for (let end = 100; end <= text.length; end += 97) {
    const now = blocks(text.slice(0, end))
    expect(now.slice(0, before.length - 1)).toEqual(before.slice(0, -1))
    before = now
  }
  const sentences = 'A sentence of some words. '.repeat(300)
  expect(blocks(sentences)[0]).toMatch(/words\. $/)
  expect(blocks('```\n' + text + '\n```')).toHaveLength(1)
})

test('half a code block is shown as code', () => {
  expect(closed('```js\nlet a')).toBe('```js\nlet a\n```')
  expect(closed('```js\nlet a\n```\n')).toBe('```js\nlet a\n```\n')
  expect(closed('plain')).toBe('plain')
})

test('link definitions are found wherever they stand', () => {
  expect(definitions('see [a]\n\n[a]: https://example.org\n\nmore')).toBe('[a]: https://example.org')
  expect(definitions('nothing here')).toBe('')
})
