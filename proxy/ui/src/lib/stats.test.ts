import { expect, test } from 'vitest'
import { rate } from './stats'
import type { Asked } from './types'

const asked = (more: Partial<Asked>): Asked => ({ id: 'x', model: 'm', endpoint: '', stream: true, state: 'done', since: 100, ...more })

test('the rate counts from the first token', () => {
  expect(rate(asked({ generated: 11, first_ms: 500, total_ms: 1500 }), 0)).toBe(10)
  expect(rate(asked({ generated: 11, first_ms: 500 }), 101.5)).toBe(10)
})

test('one token, or none, has no rate', () => {
  expect(rate(asked({ generated: 1, first_ms: 500, total_ms: 1500 }), 0)).toBeNull()
  expect(rate(asked({}), 0)).toBeNull()
})
