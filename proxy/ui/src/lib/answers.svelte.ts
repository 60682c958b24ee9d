// Answers that are being written: one for each conversation, several at once.

import { tick } from 'svelte'
import * as api from './api'
import { models } from './models.svelte'
import { body } from './prompt'
import { presetFor, thinkingOf } from './settings.svelte'
import type { ChatEvent } from './sse'
import { rescue } from './storage'
import type { Message } from './types'

const SAVE_EVERY = 1000 // milliseconds; a reload loses at most that
const SHARE = 6 // parts of the time of which showing takes one: the reader's own clicks need the rest

/** One answer, and what it is waiting for. */
export interface Running {
  message: string
  note: string // the server's comment: "queued 2", "loading 0.42"
  prefill: { share: number; left: number } | null
  began: boolean
  stop: AbortController
}

class Answers {
  running = $state<Record<string, Running>>({}) // by conversation
  keep: (message: Message) => unknown = () => {} // stores it

  stop(id: string): void {
    this.running[id]?.stop.abort()
  }

  /** Has the model of `message` answer `prompt` into it; `goOn`: after what is in it already. */
  async stream(message: Message, prompt: Message[], goOn: boolean): Promise<void> {
    const { convId, model } = message
    this.running[convId] = { message: message.id, note: '', prefill: null, began: false, stop: new AbortController() }
    const running = this.running[convId]!
    const request = body(prompt, { model, preset: presetFor(model), thinking: thinkingOf(model), goOn })
    const text = new Pen(message, this.keep)
    message.failure = null
    message.stopped = false
    message.finish = ''
    models.waiting++
    void models.refresh()
    try {
      for await (const found of api.chat(request, running.stop.signal)) {
        for (const event of found) take(event, message, running, text)
        if (text.some) begin(running)
      }
    } catch (error) {
      if (running.stop.signal.aborted) message.stopped = true
      else message.failure = failure(error)
    } finally {
      text.end()
      begin(running)
      delete this.running[convId]
      void models.refresh()
    }
  }
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

/** Brings text into a message, once a frame or less often, and stores it now and then. */
class Pen {
  some = false
  timings: Message['timings'] = null
  #text = ''
  #reasoning = ''
  #frame = 0
  #saved = Date.now()
  #due = 0
  #busy = false
  #store: () => void

  constructor(
    private readonly message: Message,
    keep: (message: Message) => unknown,
  ) {
    this.#store = () => keep(message)
    addEventListener('pagehide', this.#leave) // a reload in the middle loses nothing that was shown
  }

  write(text: string, reasoning: string): void {
    this.#text += text
    this.#reasoning += reasoning
    this.some = true
    if (document.hidden) this.#flush() // no frames there
    else this.#frame ||= requestAnimationFrame(this.#show)
  }

  end(): void {
    cancelAnimationFrame(this.#frame)
    removeEventListener('pagehide', this.#leave)
    this.#flush()
    this.#store()
  }

  #leave = (): void => {
    this.#flush()
    rescue($state.snapshot(this.message) as Message)
  }

  #show = async (now: number): Promise<void> => {
    this.#frame = 0
    if (this.#busy || now < this.#due) {
      this.#frame = requestAnimationFrame(this.#show)
      return
    }
    this.#busy = true
    const began = performance.now()
    this.#flush()
    await tick()
    const end = performance.now()
    this.#due = end + (end - began) * SHARE
    this.#busy = false
  }

  #flush(): void {
    const { message } = this
    if (this.#text) message.content += this.#text
    if (this.#reasoning) message.reasoningContent += this.#reasoning
    if (this.timings) message.timings = this.timings
    this.#text = this.#reasoning = ''
    if (Date.now() - this.#saved > SAVE_EVERY) {
      this.#saved = Date.now()
      this.#store()
    }
  }
}

export const answers = new Answers()
