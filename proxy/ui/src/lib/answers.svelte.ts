// Answers that are being written: several at once, also in one conversation.

import * as api from './api'
import { models } from './models.svelte'
import { Pen } from './pen.svelte'
import { forget, lengthOf, rewind, type Pending } from './pending'
import { body } from './prompt'
import { presetFor, thinkingOf } from './settings.svelte'
import type { ChatEvent } from './sse'
import type { Message } from './types'

const PATIENCE = 60_000 // milliseconds for which a lost connection is tried again
const AGAIN = 500 // before the second try, doubled each time …
const SELDOM = 5000 // … up to this

type Events = AsyncGenerator<ChatEvent[]>

/** One answer, and what it is waiting for. */
export interface Running {
  convId: string
  note: string // the server's comment: "queued 2", "loading 0.42"
  prefill: { share: number; left: number } | null
  began: boolean
  lost: boolean // the connection is, and the rest is asked for
  stop: AbortController
}

class Answers {
  running = $state<Record<string, Running>>({}) // by message
  keep: (message: Message) => unknown = () => {} // stores it
  ended: (message: Message) => unknown = () => {} // it is whole, or nothing more comes

  /** Those of a conversation. */
  of = (convId: string): Running[] => Object.values(this.running).filter((each) => each.convId === convId)
  busy = (convId: string): boolean => this.of(convId).length > 0

  stop(convId: string): void {
    for (const [id, each] of Object.entries(this.running)) {
      if (each.convId !== convId) continue
      each.stop.abort()
      void api.drop(id)
    }
  }

  /** Has the model of `message` answer `prompt` into it; `goOn`: after what is in it already. */
  stream(message: Message, prompt: Message[], goOn: boolean): Promise<void> {
    const { id, convId, model } = message
    const request = body(prompt, { model, preset: presetFor(model), thinking: thinkingOf(model), goOn, sees: models.sees(model) })
    const pending = { id, convId, bytes: 0, ...lengthOf(message), base: lengthOf(message), at: Date.now() }
    return this.#follow(message, pending, false, (signal) => api.chat(request, pending, signal))
  }

  /** Goes on reading an answer that began before this page did; one that is not kept stays as it is. */
  resume(message: Message, pending: Pending): Promise<void> {
    const before = { content: message.content, reasoningContent: message.reasoningContent }
    rewind(message, pending)
    const gone = (): unknown => Object.assign(message, before)
    return this.#follow(message, pending, true, (signal) => api.resume(pending, signal), gone)
  }

  async #follow(message: Message, pending: Pending, lost: boolean, open: (signal: AbortSignal) => Events, gone?: () => unknown): Promise<void> {
    const { id, convId } = message
    this.running[id] = { convId, note: '', prefill: null, began: false, lost, stop: new AbortController() }
    const running = this.running[id]!
    const text = new Pen(message, pending, this.keep)
    Object.assign(message, { failure: null, stopped: false, finish: '' })
    models.waiting++
    void models.refresh()
    try {
      await read(open(running.stop.signal), message, running, text, pending)
    } catch (error) {
      if (running.stop.signal.aborted) message.stopped = true
      else if (gone && !text.some && error === LOST) gone()
      else message.failure = failure(error)
    } finally {
      text.end()
      forget(id)
      begin(running)
      delete this.running[id]
      this.ended(message)
      void models.refresh()
    }
  }
}

const LOST = new api.ApiFailure('The connection was lost before the answer was complete.', 'interrupted', 0)

/** Reads to the end, over lost connections where the server keeps what comes meanwhile. */
async function read(events: Events, message: Message, running: Running, text: Pen, pending: Pending): Promise<void> {
  const { signal } = running.stop
  let until = running.lost ? Date.now() + PATIENCE : 0
  for (let pause = 0; ; events = api.resume(pending, signal)) {
    try {
      for await (const found of events) {
        running.lost = false
        until = pause = 0
        for (const event of found) take(event, message, running, text)
        if (text.some) begin(running)
      }
      return
    } catch (error) {
      if (signal.aborted || !mayGoOn(error, running.lost || text.gone)) throw error // a page that goes loses all its lines
      if ((error as api.ApiFailure).code === 'starting') until = 0 // its model loads, however long that takes
    }
    running.lost = true
    until ||= Date.now() + PATIENCE
    if (Date.now() > until) throw LOST
    await new Promise((done) => setTimeout(done, pause))
    pause = Math.min(SELDOM, pause * 2 || AGAIN)
    signal.throwIfAborted()
  }
}

/** Whether the rest may still come; `lost`: it is being asked for. Throws when the server says that it has none. */
function mayGoOn(error: unknown, lost: boolean): boolean {
  if (!(error instanceof api.ApiFailure)) return false
  if (lost && (error.status === 400 || api.missing(error))) throw LOST
  return error.code === 'interrupted' || (lost && ['unreachable', 'starting'].includes(error.code))
}

function take(event: ChatEvent, message: Message, running: Running, text: Pen): void {
  if (event.type === 'text') text.write(event.text, '')
  else if (event.type === 'reasoning') text.write('', event.text)
  else if (event.type === 'timings') text.timings = event.timings
  else if (event.type === 'waiting') running.note = event.note
  else if (event.type === 'prefill') running.prefill = event
  else if (event.type === 'finish') message.finish = event.reason
  else if (event.type === 'failure') message.failure = event.failure
}

function begin(running: Running): void {
  if (running.began) return
  running.began = true
  models.waiting--
  void models.refresh() // it may have been loaded for this
}

function failure(error: unknown): Message['failure'] {
  if (!(error instanceof api.ApiFailure)) return { message: String(error), code: 'internal' }
  if (error.status === 401) models.locked = true
  return { message: error.message, code: error.code }
}

export const answers = new Answers()
