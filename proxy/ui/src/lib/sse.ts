// Server-sent events: bytes → records → events of a chat. Knows no network.

import type { Failure, Timings } from './types'

export type Item = { kind: 'data'; data: string; id?: string } | { kind: 'comment'; text: string }

/** Takes bytes as they come, in any pieces; gives whole records and comments. */
export class SseReader {
  #decoder = new TextDecoder()
  #rest = ''
  #data: string[] = []
  #fresh = true // a line begins
  #read = 0
  whole = 0 // bytes up to the end of the last whole record
  #id: string | undefined

  feed(bytes: Uint8Array): Item[] {
    this.#count(bytes)
    this.#rest += this.#decoder.decode(bytes, { stream: true })
    const found: Item[] = []
    for (;;) {
      const end = this.#rest.search(/\r\n|\n|\r(?=[^\n])/) // a last \r may be half of \r\n
      if (end < 0) return found
      const line = this.#rest.slice(0, end)
      this.#rest = this.#rest.slice(end + (this.#rest.startsWith('\r\n', end) ? 2 : 1))
      this.#line(line, found)
    }
  }

  #count(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.#read++
      if (byte === 10 && this.#fresh) this.whole = this.#read
      if (byte !== 13) this.#fresh = byte === 10
    }
  }

  #line(line: string, found: Item[]): void {
    if (line === '') {
      if (this.#data.length) found.push({ kind: 'data', data: this.#data.join('\n'), ...(this.#id === undefined ? {} : { id: this.#id }) })
      this.#data = []
      this.#id = undefined
    } else if (line.startsWith(':')) {
      found.push({ kind: 'comment', text: line.slice(1).trim() })
    } else if (line.startsWith('data:')) {
      this.#data.push(line.slice(5).replace(/^ /, ''))
    } else if (line.startsWith('id:')) {
      this.#id = line.slice(3).trim()
    }
  }
}

export type ChatEvent =
  | { type: 'text'; text: string }
  | { type: 'reasoning'; text: string }
  | { type: 'timings'; timings: Timings }
  | { type: 'prefill'; share: number; left: number } // seconds, as far as one can say; -1: not yet
  | { type: 'finish'; reason: string }
  | { type: 'waiting'; note: string }
  | { type: 'failure'; failure: Failure }
  | { type: 'done' }

/** What one record means; a record may mean several things. */
export function events(item: Item): ChatEvent[] {
  if (item.kind === 'comment') return item.text ? [{ type: 'waiting', note: item.text }] : []
  if (item.data === '[DONE]') return [{ type: 'done' }]
  let record
  try {
    record = JSON.parse(item.data)
  } catch {
    return [{ type: 'failure', failure: { code: 'bad_record', message: 'The server sent something unreadable.' } }]
  }
  if (record.error) {
    const { message, code } = record.error
    return [{ type: 'failure', failure: { code: String(code ?? 'error'), message: message ?? 'The server failed.' } }]
  }
  const found: ChatEvent[] = []
  if (record.prompt_progress) {
    const { total, cache, processed, time_ms } = record.prompt_progress
    const read = processed - cache
    const left = read > 0 && time_ms > 0 ? ((total - processed) * time_ms) / read / 1000 : -1
    found.push({ type: 'prefill', share: total > cache ? read / (total - cache) : 1, left })
  }
  const choice = record.choices?.[0]
  if (choice?.delta?.reasoning_content) found.push({ type: 'reasoning', text: choice.delta.reasoning_content })
  if (choice?.delta?.content) found.push({ type: 'text', text: choice.delta.content })
  if (record.timings) found.push({ type: 'timings', timings: record.timings })
  if (choice?.finish_reason) found.push({ type: 'finish', reason: choice.finish_reason })
  return found
}
