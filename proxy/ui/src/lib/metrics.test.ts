import { expect, test } from 'vitest'
import { byModel, devices, growth } from './metrics'

const PAGE = `# HELP llamacpp:tokens_predicted_total Tokens.
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total{model="a"} 12
llamacpp:tokens_predicted_total{kind="x",model="b"} 30.5
llamacpp:tokens_predicted_total_other{model="a"} 99
llamacpp:prompt_tokens_total{model="a"} NaN
`

test('the samples of one name, by model', () => {
  expect(byModel(PAGE, 'llamacpp:tokens_predicted_total')).toEqual({ a: 12, b: 30.5 })
  expect(byModel(PAGE, 'llamacpp:prompt_tokens_total')).toEqual({})
})

test('a counter that began anew has grown by what it shows', () => {
  expect(growth({ a: 10, b: 50 }, { a: 12, b: 5, c: 1 })).toEqual({ a: 2, b: 5, c: 1 })
})

test('the memory of each device, the largest part first', () => {
  const page = `llama_supervisor_memory_budget_bytes{device="ram"} 100
llama_supervisor_memory_budget_bytes{device="gpu:0"} 50
llama_supervisor_memory_placed_bytes{device="ram",model="small"} 10
llama_supervisor_memory_placed_bytes{device="ram",model="a \\"large\\" one"} 60
`
  expect(devices(page)).toEqual([
    { name: 'ram', budget: 100, parts: [{ model: 'a "large" one', size: 60 }, { model: 'small', size: 10 }] },
    { name: 'gpu:0', budget: 50, parts: [] },
  ])
})
