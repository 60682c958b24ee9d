// What the reader has said while a model was busy answering: sent when it is done. Text outlives the page, files do not.

import { keep, recall } from './stored'
import type { Attachment } from './types'

const KEY = 'lsv.queue.'

export interface Queued {
  text: string
  model: string
  beside: string
  extra: Attachment[]
}

class Queue {
  #waiting = $state<Record<string, Queued[]>>({}) // by conversation

  of(convId: string): Queued[] {
    return this.#waiting[convId] ?? []
  }

  /** Reads what an earlier page has left. */
  open(convId: string): void {
    if (this.#waiting[convId]) return
    const found = recall<Queued[]>(KEY + convId, [])
    if (found.length) this.#waiting[convId] = found
  }

  add(convId: string, queued: Queued): void {
    this.#waiting[convId] = [...this.of(convId), queued]
    this.#keep(convId)
  }

  take(convId: string, index = 0): Queued | undefined {
    const found = $state.snapshot(this.of(convId)[index]) as Queued | undefined
    this.#waiting[convId] = this.of(convId).filter((_, each) => each !== index)
    this.#keep(convId)
    return found
  }

  #keep(convId: string): void {
    const left = this.of(convId).map((each) => ({ ...each, extra: [] }))
    keep(KEY + convId, left.length ? left : undefined)
  }
}

export const queue = new Queue()
