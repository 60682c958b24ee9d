import { expect, test } from 'vitest'
import { matches, publisher } from './modelid'

test('the publisher is what stands before the slash', () => {
  expect(publisher('unsloth/Qwen3-8B-GGUF:Q4_K_M')).toBe('unsloth')
  expect([publisher('qwen3'), publisher('/x')]).toEqual(['', ''])
})

test('every word must be found, in name, aliases or tags', () => {
  const model = { id: 'unsloth/Qwen3-8B', aliases: ['default'], tags: ['chat'] }
  expect(matches(model, 'QWEN 8b')).toBe(true)
  expect(matches(model, 'qwen default chat')).toBe(true)
  expect(matches(model, 'qwen 70b')).toBe(false)
  expect(matches(model, '')).toBe(true)
})
