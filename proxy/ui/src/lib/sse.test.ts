import { expect, test } from 'vitest'
import { events, SseReader, type Item } from './sse'

const read = (text: string): Item[] => new SseReader().feed(new TextEncoder().encode(text))

test('pieces at every byte border give the same records', () => {
  const bytes = new TextEncoder().encode(': loading 0.42\r\n\r\ndata: {"a":"žluťoučký 🦙"}\n\ndata: one\ndata: two\r\n\r\n')
  const whole = new SseReader().feed(bytes)
  expect(whole).toEqual([
    { kind: 'comment', text: 'loading 0.42' },
    { kind: 'data', data: '{"a":"žluťoučký 🦙"}' },
    { kind: 'data', data: 'one\ntwo' },
  ])
  for (let first = 0; first <= bytes.length; first++) {
    for (let second = first; second <= bytes.length; second++) {
      const reader = new SseReader()
      const pieces = [bytes.slice(0, first), bytes.slice(first, second), bytes.slice(second)]
      expect(pieces.flatMap((piece) => reader.feed(piece))).toEqual(whole)
    }
  }
})

test('a record may bear an id', () => {
  expect(read('id: b.7\ndata: x\n\ndata: y\n\n')).toEqual([
    { kind: 'data', data: 'x', id: 'b.7' },
    { kind: 'data', data: 'y' },
  ])
})

test('a record without its empty line is not given yet', () => {
  expect(read('data: half')).toEqual([])
  expect(read('data: half\n')).toEqual([])
})

test('records become events', () => {
  const of = (record: object) => events({ kind: 'data', data: JSON.stringify(record) })
  expect(of({ choices: [{ delta: { role: 'assistant', content: null }, finish_reason: null }] })).toEqual([])
  expect(of({ choices: [{ delta: { content: 'a' } }] })).toEqual([{ type: 'text', text: 'a' }])
  expect(of({ choices: [{ delta: { reasoning_content: 'b' } }] })).toEqual([{ type: 'reasoning', text: 'b' }])
  expect(of({ choices: [], prompt_progress: { total: 30, cache: 10, processed: 20, time_ms: 2000 } })).toEqual([
    { type: 'prefill', share: 0.5, left: 2 },
  ])
  const timings = { predicted_n: 3 }
  expect(of({ choices: [{ delta: {}, finish_reason: 'stop' }], timings })).toEqual([
    { type: 'timings', timings },
    { type: 'finish', reason: 'stop' },
  ])
})

test('an error record and an unreadable one are failures, [DONE] is the end', () => {
  const error = { message: 'the worker of a ended', code: 'worker_died', status: 500 }
  expect(events({ kind: 'data', data: JSON.stringify({ error }) })).toEqual([
    { type: 'failure', failure: { message: 'the worker of a ended', code: 'worker_died' } },
  ])
  expect(events({ kind: 'data', data: '{"a":' })[0]).toMatchObject({ type: 'failure', failure: { code: 'bad_record' } })
  expect(events({ kind: 'data', data: '[DONE]' })).toEqual([{ type: 'done' }])
  expect(events({ kind: 'comment', text: 'queued 2' })).toEqual([{ type: 'waiting', note: 'queued 2' }])
  expect(events({ kind: 'comment', text: '' })).toEqual([])
})

test('reading may go on elsewhere after the last whole record', () => {
  const bytes = new TextEncoder().encode(': queued 1\n\ndata: {"a":"ž🦙"}\n\ndata: one\ndata: two\r\n\r\ndata: end\n\n')
  const records = (items: Item[]): Item[] => items.filter((item) => item.kind === 'data')
  const all = records(new SseReader().feed(bytes))
  for (let cut = 0; cut <= bytes.length; cut++) {
    const first = new SseReader()
    const before = records([...first.feed(bytes.slice(0, cut >> 1)), ...first.feed(bytes.slice(cut >> 1, cut))])
    expect([...before, ...records(new SseReader().feed(bytes.slice(first.whole)))]).toEqual(all)
  }
})
