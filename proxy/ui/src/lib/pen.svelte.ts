// Brings text into a message as it comes, once a frame or less often, and stores it now and then.

import { tick } from 'svelte'
import { lengthOf, note, type Pending } from './pending'
import { rescue } from './storage'
import type { Message } from './types'

const SAVE_EVERY = 1000 // milliseconds; a crash of the browser loses at most that
const SHARE = 6 // parts of the time of which showing takes one: the reader's own clicks need the rest

export class Pen {
  some = false
  timings: Message['timings'] = null
  #text = ''
  #reasoning = ''
  #frame = 0
  #saved = 0
  #due = 0
  #busy = false
  gone = false // the page is

  constructor(
    private readonly message: Message,
    private readonly pending: Pending,
    private readonly keep: (message: Message) => unknown,
  ) {
    addEventListener('pagehide', this.#leave) // a reload in the middle loses nothing that was shown
    addEventListener('pageshow', this.#back)
    this.#store()
  }

  write(text: string, reasoning: string): void {
    this.#text += text
    this.#reasoning += reasoning
    this.some = true
    if (document.hidden) queueMicrotask(() => this.#flush()) // no frames there; when the whole piece has been read
    else this.#frame ||= requestAnimationFrame(this.#show)
  }

  end(): void {
    cancelAnimationFrame(this.#frame)
    removeEventListener('pagehide', this.#leave)
    removeEventListener('pageshow', this.#back)
    this.#flush()
    this.keep(this.message)
  }

  #leave = (): void => {
    this.#flush()
    rescue($state.snapshot(this.message) as Message)
    this.#note(0)
    this.gone = true
  }

  #back = (): void => {
    this.gone = false
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
    if (Date.now() - this.#saved > SAVE_EVERY) this.#store()
  }

  #store(): void {
    this.#saved = Date.now()
    this.keep(this.message)
    this.#note(this.#saved)
  }

  #note(at: number): void {
    if (!this.gone) note(Object.assign(this.pending, lengthOf(this.message), { at }))
  }
}
