// The models as the server says: told by its feed, and asked for where the feed is down. Asking never loads anything.

import * as api from './api'
import type { FeedEvent } from './feed'
import { chats, lacking, reads, type Needs } from './modalities'
import { settings, saveSettings } from './settings.svelte'
import { attempt, toast } from './toasts.svelte'
import type { Modality, Model } from './types'

const TOLD = 30_000 // milliseconds between two questions while the feed tells what changes
const BUSY = 1000 // while it does not, a model is on its way, or somebody waits
const WATCHED = 2000 // while the models page is open: how much is in flight is in no event
const AGAIN = 1000 // before the feed is tried again, doubled each time …
const SELDOM = 30_000 // … up to this
const PATIENCE = 15_000 // after which an order that moved nothing is given up
const MOVING = new Set(['downloading', 'loading', 'draining', 'stopping', 'backoff'])

class Models {
  list = $state<Model[]>([])
  known = $state(false) // the server has answered once
  reachable = $state(true)
  locked = $state(false) // a key is needed
  #router = $state(true) // of several models; else the one that a llama-server has
  max = $state(0)
  now = $state(Date.now() / 1000)
  waiting = $state(0) // answers that have not begun
  watched = $state(false) // the models page is open
  live = $state(false) // the feed tells what changes
  deaths = $state(0) // grows with each one
  downloads = $state<Record<string, { done: number; total: number }>>({})
  #pending = new Set<string>() // asked to load or unload, and not yet seen to move
  #timer: ReturnType<typeof setTimeout> | undefined
  #soon: ReturnType<typeof setTimeout> | undefined
  #props = $state<Record<string, api.Props>>({})
  #feed: AbortController | undefined
  #lastId = ''

  loaded = $derived(this.list.filter((model) => ['ready', 'draining'].includes(model.status.state)))
  partners = $derived(this.list.filter(chats))
  several = $derived(this.#router && this.partners.length > 1) // there is a choice

  get(id: string): Model | undefined {
    return this.list.find((model) => model.id === id || model.aliases.includes(id))
  }

  /** The model for a new chat: the last choice → a loaded one → a favourite → the one called default → the first. */
  preferred(): string {
    const byAlias = this.partners.find((model) => model.aliases.includes('default'))
    const favourite = this.partners.find((model) => settings.favourites.includes(model.id))
    const up = this.loaded.filter(chats)
    const loaded = up.find((model) => model === byAlias) ?? up[0]
    return (this.get(settings.model) ?? loaded ?? favourite ?? byAlias ?? this.partners[0])?.id ?? ''
  }

  start(): () => void {
    const look = (): void => {
      clearTimeout(this.#timer)
      if (document.visibilityState === 'visible') {
        void this.refresh()
        void this.#watch()
      } else {
        this.#feed?.abort() // a browser has few connections for one server, and a hidden page needs none
      }
    }
    document.addEventListener('visibilitychange', look)
    look()
    return () => {
      document.removeEventListener('visibilitychange', look)
      clearTimeout(this.#timer)
      this.#feed?.abort()
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
          delete this.#props[model.id]
        }
      }
      this.list = found
      if (!this.known) {
        const { max_instances, role } = await api.props()
        this.max = max_instances ?? 0
        this.#router = role !== 'model'
      }
      this.known = this.reachable = true
      this.locked = false
    } catch (error) {
      if (error instanceof api.ApiFailure && error.status === 401) this.locked = true
      else this.reachable = false
    }
    this.now = Date.now() / 1000
    this.#again()
  }

  // -- what a model is ------------------------------------------------------------------------------------------

  props(id: string): api.Props | undefined {
    return this.#props[id]
  }

  /** What the server takes where the reader has said nothing. */
  defaults(id: string): Record<string, number | undefined> {
    return this.#props[id]?.default_generation_settings.params ?? {}
  }

  async fetchProps(id: string): Promise<void> {
    if (!id || this.#props[id]) return
    try {
      this.#props[id] = await api.props(id)
    } catch {
      // placeholders only
    }
  }

  /** Whether it reads this; undefined as long as nobody says. */
  reads(model: Model, modality: Modality): boolean | undefined {
    const said = this.#props[model.id]?.modalities
    return reads(model, modality) ?? (modality === 'image' ? said?.vision : modality === 'audio' ? said?.audio : undefined)
  }

  sees = (id: string): boolean => Boolean(this.get(id) && this.reads(this.get(id)!, 'image'))
  hears = (id: string): boolean => Boolean(this.get(id) && this.reads(this.get(id)!, 'audio'))

  /** Why this model cannot take what needs this; "" if it can, or if only its load will tell. */
  lacking(id: string, wanted: Needs): string {
    const model = this.get(id)
    if (!model) return ''
    const maybe = !['ready', 'draining'].includes(model.status.state)
    return lacking(id, [...wanted].filter((modality) => !(this.reads(model, modality) ?? maybe)))
  }

  /** Whether its reasoning can be switched: the template says so once it is known. */
  reasons(id: string): boolean {
    const { chat_template = '', chat_template_caps } = this.#props[id] ?? {}
    return Boolean(this.get(id)?.capabilities?.reasoning || chat_template_caps?.supports_reasoning_effort || /enable_thinking|reasoning_effort/.test(chat_template))
  }

  // -- orders ---------------------------------------------------------------------------------------------------

  load = (id: string): Promise<void> => this.#command(id, () => api.load(id))
  unload = (id: string): Promise<void> => this.#command(id, () => api.unload(id))
  unloadAll = (): Promise<void> => this.#command('', api.unloadAll)
  pull = (id: string): Promise<void> => this.#command(id, () => api.pull(id))
  remove = (id: string): Promise<void> => this.#command(id, () => api.remove(id))

  choose(id: string): void {
    settings.model = id
    saveSettings()
  }

  /** Loads a chosen model. One that said only then what it reads goes again if that is not enough; returns the reason. */
  async take(id: string, wanted: Needs): Promise<string> {
    if (this.get(id)?.status.state !== 'unloaded') return this.lacking(id, wanted)
    await this.load(id)
    while (this.#pending.has(id) || this.get(id)?.status.state === 'loading') await new Promise((done) => setTimeout(done, BUSY / 4))
    await this.fetchProps(id)
    const why = this.lacking(id, wanted)
    if (why) await this.unload(id)
    return why
  }

  toggleFavourite(id: string): void {
    const { favourites } = settings
    settings.favourites = favourites.includes(id) ? favourites.filter((each) => each !== id) : [...favourites, id]
    saveSettings()
  }

  async #command(id: string, run: () => Promise<unknown>): Promise<void> {
    this.#pending.add(id)
    setTimeout(() => this.#pending.delete(id), PATIENCE)
    if (!(await attempt(run))) this.#pending.delete(id)
    await this.refresh()
  }

  // -- the feed, and the poll behind it -------------------------------------------------------------------------

  /** Reads the feed for as long as the page is seen; one at a time. */
  async #watch(): Promise<void> {
    this.#feed?.abort()
    const mine = (this.#feed = new AbortController())
    for (let pause = AGAIN; !mine.signal.aborted && !this.locked; pause = Math.min(SELDOM, pause * 2)) {
      try {
        await api.watch(this.#lastId, () => ((this.live = true), (pause = AGAIN), this.#refreshSoon()), this.#told, mine.signal)
      } catch {
        // the poll goes on
      }
      if (mine !== this.#feed) return
      this.live = false
      if (!mine.signal.aborted) {
        this.#refreshSoon()
        await new Promise((done) => setTimeout(done, pause))
      }
    }
  }

  #told = (event: FeedEvent, id?: string): void => {
    if (id !== undefined) this.#lastId = id
    if (event.type === 'progress') {
      const status = this.get(event.model)?.status
      if (status?.state === 'loading') {
        status.progress = { value: event.value, current: event.current }
        return
      }
    }
    if (event.type === 'download') this.downloads[event.model] = event
    else if (event.type === 'failed' && !/cancelled/.test(event.message)) toast(`${event.model}: ${event.message}`)
    if (event.type === 'death') this.deaths++
    if (event.type !== 'download') this.#refreshSoon()
  }

  #refreshSoon(): void {
    clearTimeout(this.#soon)
    this.#soon = setTimeout(() => void this.refresh(), 30)
  }

  #again(): void {
    clearTimeout(this.#timer)
    if (document.visibilityState !== 'visible' || this.locked) return
    const moving = this.list.some((model) => MOVING.has(model.status.state))
    const busy = moving || this.#pending.size > 0 || this.waiting > 0 || !this.live
    this.#timer = setTimeout(() => void this.refresh(), busy ? BUSY : this.watched ? WATCHED : TOLD)
  }

  // -- the key --------------------------------------------------------------------------------------------------

  get keyed(): boolean {
    return api.hasKey()
  }

  /** Tries a key. Whether the server knows it. */
  async unlock(key: string, keep: boolean): Promise<boolean> {
    api.useKey(key, keep)
    await this.refresh()
    if (!this.locked) void this.#watch()
    return !this.locked
  }

  lock(): void {
    api.forgetKey()
    void this.refresh()
  }
}

export const models = new Models()
