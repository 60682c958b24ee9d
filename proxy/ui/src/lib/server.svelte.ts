// What only those who run the box want to know; asked for while they look.

import * as api from './api'
import { byModel, devices, growth, type Device } from './metrics'
import { models } from './models.svelte'
import type { Death } from './types'

const COUNTER = 'llamacpp:tokens_predicted_total'
const POINTS = 90 // of the chart

/** "gpu:0" → "GPU 0" */
export const deviceName = (name: string): string => (name === 'ram' ? 'RAM' : name.replace(/^gpu:/, 'GPU '))

class Server {
  deaths = $state<Death[]>([])
  admin = $state(true) // until the server says otherwise
  speeds = $state<number[]>([]) // tokens a second of all models, newest last
  speed = $state<Record<string, number>>({}) // of each, now
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
    if (!this.measures) return
    const at = performance.now()
    try {
      const text = await api.metrics()
      const counters = byModel(text, COUNTER)
      this.devices = devices(text)
      const { at: then, counters: before } = this.#before ?? { at, counters }
      const grown = Object.entries(growth(before, counters))
      this.speed = Object.fromEntries(grown.map(([model, tokens]) => [model, at > then ? (tokens * 1000) / (at - then) : 0]))
      this.#before = { at, counters }
    } catch (error) {
      if (api.missing(error)) this.measures = false
      return
    }
    this.speeds = [...this.speeds.slice(1 - POINTS), Object.values(this.speed).reduce((sum, each) => sum + each, 0)]
  }

  /** What a model takes of each device: the device, and the share of its budget. */
  shares(model: string): [string, number][] {
    return this.devices.flatMap(({ name, budget, parts }) => {
      const part = parts.find((each) => each.model === model)
      return part ? [[deviceName(name), part.size / budget] as [string, number]] : []
    })
  }

  of(model: string): Death[] {
    return this.deaths.filter((death) => death.model === model)
  }

  /** All memory that models hold, the KV cache's included, as far as it is known; null: not at all. */
  get held(): number | null {
    const known = models.loaded.flatMap(({ memory, meta }) => {
      const parts = [memory?.vram, memory?.ram].filter((part) => typeof part === 'number')
      return parts.length ? [parts.reduce((sum, part) => sum + part, 0)] : meta?.size ? [meta.size] : []
    })
    return known.length ? known.reduce((sum, each) => sum + each, 0) : null
  }
}

export const server = new Server()
