import { expect, test } from 'vitest'
import { age, bytes, cause, context, detail, duration, parameters, statistics, title } from './format'
import type { Model } from './types'

test('sizes, counts and times are short', () => {
  expect([0, 512, 1536, 91_000_000, 41 * 2 ** 30].map(bytes)).toEqual(['0 B', '512 B', '1.5 KiB', '87 MiB', '41 GiB'])
  expect([950, 134_515_008, 8.03e9].map(parameters)).toEqual(['950', '135M', '8.0B'])
  expect([4096, 1000, 131_072].map(context)).toEqual(['4k', '1,000', '128k'])
  expect([0.04, 12.4, 61, 3700, 90_000].map(duration)).toEqual(['0.0 s', '12 s', '1 min', '1 h 1 min', '1 d'])
  expect([-0.3, 0.9, 12.7, 61].map(age)).toEqual(['0 s', '0 s', '12 s', '1 min'])
})

const TIMINGS = { cache_n: 3, prompt_n: 4, prompt_ms: 10, prompt_per_second: 400, predicted_n: 9, predicted_ms: 1500, predicted_per_second: 6 }

test('statistics leave out a rate that nobody knows', () => {
  expect(statistics(TIMINGS)).toEqual(['9 tokens', '6.0 tokens/s', '1.5 s', 'prompt 7 (3 cached)'])
  expect(statistics({ ...TIMINGS, prompt_n: 40 }).at(-1)).toBe('prompt 43 (3 cached) at 400/s')
  expect(statistics({ ...TIMINGS, predicted_n: 1, predicted_per_second: 0, cache_n: 0 })).toEqual(['1 token', '1.5 s', 'prompt 4'])
})

const model = (status: Partial<Model['status']>, in_flight = 0) =>
  ({ status: { state: 'ready', queued: 0, ...status }, runtime: { in_flight } }) as Model

test('a failure is told with its cause, its signal and its message', () => {
  expect(cause(model({ state: 'failed', cause: 'crashed', signal: 'SIGSEGV', message: 'while loading' }))).toBe(
    'Crashed (SIGSEGV): while loading',
  )
  expect(cause(model({ state: 'backoff', cause: 'new_cause' }))).toBe('New_cause')
  expect(cause(model({ state: 'ready', cause: 'crashed' }))).toBe('')
})

test('a status says what is going on', () => {
  expect(detail(model({ state: 'loading', progress: { value: 0.42 } }), 0)).toBe('42 %')
  expect(detail(model({ state: 'backoff', retry_at: 14 }), 10.5)).toBe('retry in 4 s')
  expect(detail(model({ queued: 2 }, 4), 0)).toBe('2 waiting')
  expect(detail(model({}, 4), 0)).toBe('4 running')
  expect(detail(model({}), 0)).toBe('')
})

test('a conversation is named after its first line', () => {
  expect(title('  ## Hello\nworld')).toBe('Hello')
  expect(title('x'.repeat(80))).toHaveLength(60)
  expect(title(' \n')).toBe('New chat')
})
