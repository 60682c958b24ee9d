import { expect, test } from 'vitest'
import { feedEvent } from './feed'

const of = (model: string, event: string, data?: object) => feedEvent({ kind: 'data', data: JSON.stringify({ model, event, data }) })

test('progress is taken as it is, all else is a reason to ask', () => {
  expect(of('m', 'status_change', { status: 'loading', progress: { value: 0.4, current: 'text_model' } })).toEqual({
    type: 'progress',
    model: 'm',
    value: 0.4,
    current: 'text_model',
  })
  expect(of('m', 'status_change', { status: 'loaded', info: {} })).toEqual({ type: 'changed', model: 'm' })
  expect(of('*', 'models_reload')).toEqual({ type: 'changed', model: '*' })
  expect(of('m', 'model_death', {})).toEqual({ type: 'death', model: 'm' })
})

test('the files of a download are added up', () => {
  const progress = { a: { done: 1, total: 4 }, b: { done: 2, total: 6 } }
  expect(of('m', 'download_progress', { progress })).toEqual({ type: 'download', model: 'm', done: 3, total: 10 })
})

test('why a download failed is passed on', () => {
  expect(of('m', 'download_failed', { message: 'no room' })).toEqual({ type: 'failed', model: 'm', message: 'no room' })
})

test('comments and nonsense mean nothing', () => {
  expect(feedEvent({ kind: 'comment', text: '' })).toBeUndefined()
  expect(feedEvent({ kind: 'data', data: '{' })).toBeUndefined()
  expect(feedEvent({ kind: 'data', data: 'null' })).toBeUndefined()
})
