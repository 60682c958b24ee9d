// The models as the server says, asked for again and again while somebody looks. Asking never loads anything.

import * as api from './api'
import { settings, saveSettings } from './settings.svelte'
import { toast } from './toasts.svelte'
import type { Model } from './types'

const CALM = 10_000 // milliseconds between two questions
const BUSY = 700 // while a model is on its way, or somebody waits
const MOVING = new Set(['loading', 'draining', 'stopping', 'backoff'])

class Models {
  list = $state<Model[]>([])
  known = $state(false) // the server has answered once
  reachable = $state(true)
  locked = $state(false) // a key is needed
  max = $state(0)
  now = $state(Date.now() / 1000)
  waiting = $state(0) // answers that have not begun
  watched = $state(false) // the models page is open
  #pending = new Set<string>() // asked to load or unload, and not yet seen to move
  #timer: ReturnType<typeof setTimeout> | undefined
  #defaults = $state<Record<string, api.Props['default_generation_settings']>>({})

  loaded = $derived(this.list.filter((model) => ['ready', 'draining'].includes(model.status.state)))

  get(id: string): Model | undefined {
    return this.list.find((model) => model.id === id || model.aliases.includes(id))
  }

  /** The model for a new chat: the last choice → a loaded one → the one called default → the first. */
  preferred(): string {
    const byAlias = this.list.find((model) => model.aliases.includes('default'))
    return (this.get(settings.model) ?? this.loaded[0] ?? byAlias ?? this.list[0])?.id ?? ''
  }

  start(): () => void {
    const look = (): void => {
      if (document.visibilityState === 'visible') void this.refresh()
      else clearTimeout(this.#timer)
    }
    document.addEventListener('visibilitychange', look)
    look()
    return () => {
      document.removeEventListener('visibilitychange', look)
      clearTimeout(this.#timer)
    }
  }

  async refresh(): Promise<void> {
    clearTimeout(this.#timer)
    try {
      const found = await api.listModels()
      for (const model of found) {
        const before = this.list.find((each) => each.id === model.id)
        if (before && before.status.state !== model.status.state) {
          this.#pending.delete(model.id)
          delete this.#defaults[model.id]
        }
      }
      this.list = found
      if (!this.known) this.max = (await api.props()).max_instances ?? 0
      this.known = this.reachable = true
      this.locked = false
    } catch (error) {
      if (error instanceof api.ApiFailure && error.status === 401) this.locked = true
      else this.reachable = false
    }
    this.now = Date.now() / 1000
    this.#again()
  }

  /** What the server takes where the reader has said nothing. */
  defaults(id: string): Record<string, number | undefined> {
    return this.#defaults[id]?.params ?? {}
  }

  async fetchDefaults(id: string): Promise<void> {
    if (!id || this.#defaults[id]) return
    try {
      this.#defaults[id] = (await api.props(id)).default_generation_settings
    } catch {
      // placeholders only
    }
  }

  async load(id: string): Promise<void> {
    await this.#command(id, () => api.load(id))
  }

  async unload(id: string): Promise<void> {
    await this.#command(id, () => api.unload(id))
  }

  choose(id: string): void {
    settings.model = id
    saveSettings()
  }

  toggleFavourite(id: string): void {
    const { favourites } = settings
    settings.favourites = favourites.includes(id) ? favourites.filter((each) => each !== id) : [...favourites, id]
    saveSettings()
  }

  async #command(id: string, run: () => Promise<void>): Promise<void> {
    this.#pending.add(id)
    setTimeout(() => this.#pending.delete(id), 15_000)
    try {
      await run()
    } catch (error) {
      this.#pending.delete(id)
      toast(error instanceof Error ? error.message : String(error))
    }
    await this.refresh()
  }

  #again(): void {
    clearTimeout(this.#timer)
    if (document.visibilityState !== 'visible' || this.locked) return
    const moving = this.list.some((model) => MOVING.has(model.status.state))
    const busy = moving || this.#pending.size > 0 || this.waiting > 0 || !this.reachable
    this.#timer = setTimeout(() => void this.refresh(), busy ? BUSY : this.watched ? 2000 : CALM)
  }
}

export const models = new Models()
