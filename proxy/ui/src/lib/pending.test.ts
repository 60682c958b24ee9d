import { expect, test } from 'vitest'
import { lengthOf, rewind, type Pending } from './pending'
import type { Message } from './types'

const message = (content: string, reasoningContent = ''): Message => ({ content, reasoningContent }) as Message
const pending = (text: number, reasoning = 0): Pending => ({ id: 'm', convId: 'c', bytes: 90, text, reasoning, base: { text: 4, reasoning: 0 }, at: 0 })

test('what was stored after the place that is known comes again', () => {
  const stored = message('Oncesaid this, and', 'hmm')
  const place = pending(8, 3)
  rewind(stored, place)
  expect([stored.content, stored.reasoningContent, place.bytes]).toEqual(['Oncesaid', 'hmm', 90])
})

test('a message that is shorter than it was begins anew, after what it had before', () => {
  const stored = message('Oncesa')
  const place = pending(8)
  rewind(stored, place)
  expect([stored.content, place.bytes]).toEqual(['Once', 0])
})

test('a length counts text and reasoning', () => {
  expect(lengthOf(message('ab', 'c'))).toEqual({ text: 2, reasoning: 1 })
})
