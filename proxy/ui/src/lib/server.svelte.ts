// What only those who run the box want to know; asked for while they look.

import * as api from './api'
import { byModel, devices, growth, type Device } from './metrics'
import { models } from './models.svelte'
import type { Death } from './types'

const COUNTER = 'llamacpp:tokens_predicted_total'
const POINTS = 90 // of the chart

class Server {
  deaths = $state<Death[]>([])
  admin = $state(true) // until the server says otherwise
  speeds = $state<number[]>([]) // tokens a second, newest last
  devices = $state.raw<Device[]>([]) // with the memory that models take there
  measures = $state(true) // the server has metrics
  pulls = $state(false) // models can be downloaded
  #before: { at: number; counters: Record<string, number> } | undefined

  /** Asks for deaths, and whether downloads are possible. */
  async look(): Promise<void> {
    try {
      this.deaths = await api.deaths()
      this.admin = true
    } catch (error) {
      if (error instanceof api.ApiFailure && error.status === 403) this.admin = false
    }
  }

  async probe(): Promise<void> {
    this.pulls = this.admin && (await api.pulls())
  }

  /** One more point of the chart. */
  async measure(): Promise<void> {
    let speed = 0
    const at = performance.now()
    if (this.measures) {
      try {
        const text = await api.metrics()
        const counters = byModel(text, COUNTER)
        this.devices = devices(text)
        if (this.#before) speed = growth(this.#before.counters, counters) / ((at - this.#before.at) / 1000)
        this.#before = { at, counters }
      } catch (error) {
        if (api.missing(error)) this.measures = false
        return
      }
      this.speeds = [...this.speeds.slice(1 - POINTS), speed]
    }
  }

  of(model: string): Death[] {
    return this.deaths.filter((death) => death.model === model)
  }

  /** All memory that models hold, as far as it is known; null: not at all. */
  get held(): number | null {
    const known = models.loaded.flatMap(({ memory, meta }) => {
      const parts = [memory?.vram, memory?.ram, memory?.kv].filter((part) => typeof part === 'number')
      return parts.length ? [parts.reduce((sum, part) => sum + part, 0)] : meta?.size ? [meta.size] : []
    })
    return known.length ? known.reduce((sum, each) => sum + each, 0) : null
  }
}

export const server = new Server()
