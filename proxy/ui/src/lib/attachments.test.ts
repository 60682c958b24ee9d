import { expect, test } from 'vitest'
import { kindOf, text } from './attachments'

test('a file is what its type or its name says', () => {
  expect(kindOf('image/png', 'a.png')).toBe('image')
  expect(kindOf('image/svg+xml', 'a.svg')).toBe('text')
  expect(kindOf('video/mp2t', 'a.ts')).toBe('text')
  expect(kindOf('', 'main.rs')).toBe('text')
  expect(kindOf('', 'Makefile')).toBe('text')
  expect(kindOf('application/json', 'a')).toBe('text')
  expect(kindOf('', 'a.PDF')).toBe('pdf')
  expect(kindOf('audio/mpeg', 'a.mp3')).toBe('audio')
  expect(kindOf('application/zip', 'a.zip')).toBe('unknown')
})

test('a text that is too long is refused by name', () => {
  expect(text('short', 'a.txt')).toBe('short')
  expect(() => text('x'.repeat(2 ** 20 + 1), 'a.txt')).toThrow('a.txt has more than')
})
