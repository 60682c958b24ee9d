import { expect, test } from 'vitest'
import { growth, samples } from './metrics'

const PAGE = `# HELP llamacpp:tokens_predicted_total Tokens.
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total{model="a"} 12
llamacpp:tokens_predicted_total{kind="x",model="b"} 30.5
llamacpp:tokens_predicted_total_other{model="a"} 99
llamacpp:prompt_tokens_total{model="a"} NaN
`

test('the samples of one name, by model', () => {
  expect(samples(PAGE, 'llamacpp:tokens_predicted_total')).toEqual({ a: 12, b: 30.5 })
  expect(samples(PAGE, 'llamacpp:prompt_tokens_total')).toEqual({})
})

test('a counter that began anew has grown by what it shows', () => {
  expect(growth({ a: 10, b: 50 }, { a: 12, b: 5, c: 1 })).toBe(8)
})
