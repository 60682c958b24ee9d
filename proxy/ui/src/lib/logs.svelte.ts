// What one process has written, as it comes.

import * as api from './api'
import { LogText } from './logtext'
import { reason } from './toasts.svelte'

export class Log {
  lines = $state.raw<string[]>([])
  live = $state(false)
  failed = $state('')
  #text = new LogText()
  #stop = new AbortController()

  /** "" is the log of all. */
  constructor(model: string) {
    void this.#read(model)
  }

  close(): void {
    this.#stop.abort()
  }

  /** The stream, or where there is none, what there is. */
  async #read(model: string): Promise<void> {
    const { signal } = this.#stop
    try {
      await api.followLog(model, this.#take, signal).catch(async (error: unknown) => {
        if (!api.missing(error)) throw error
        this.#take(await api.log(model))
      })
    } catch (error) {
      if (!signal.aborted) this.failed = api.missing(error) ? 'This server shows no logs here.' : reason(error)
    }
    this.live = false
  }

  #take = (piece: string): void => {
    this.live = true
    this.#text.add(piece)
    this.lines = this.#text.lines
  }
}
