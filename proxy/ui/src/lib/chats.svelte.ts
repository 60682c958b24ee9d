// Conversations: what is stored, what is shown, and the answers that are being written; several at once.

import * as api from './api'
import { title } from './format'
import { models } from './models.svelte'
import { settings } from './settings.svelte'
import * as storage from './storage'
import { toast } from './toasts.svelte'
import { exported, imported, type Thread } from './transfer'
import { later, newestLeaf, path, place } from './tree'
import { SAMPLING, type Conversation, type Message, type Role } from './types'

const SAVE_EVERY = 1000 // milliseconds; a reload loses at most that

/** What an answer that has not begun is waiting for. */
export interface Running {
  message: string
  note: string // the server's comment: "queued 2", "loading 0.42"
  prefill: number | null
  began: boolean
  stop: AbortController
}

const plain = <T>(value: T): T => $state.snapshot(value) as T

class Chats {
  list = $state<Conversation[]>([])
  threads = $state<Record<string, Message[]>>({}) // of the conversations that were opened
  running = $state<Record<string, Running>>({}) // by conversation
  ready = $state(false)
  #unsaved = false

  sorted = $derived([...this.list].sort((a, b) => Number(b.pinned) - Number(a.pinned) || b.lastModified - a.lastModified))

  async start(): Promise<void> {
    try {
      this.list = await storage.conversations()
    } catch {
      this.#unsaved = true
      toast('This browser keeps no data for this page: chats are gone when it closes.')
    }
    this.ready = true
  }

  get(id: string): Conversation | undefined {
    return this.list.find((conv) => conv.id === id)
  }

  async open(id: string): Promise<void> {
    if (!this.threads[id] && this.get(id)) {
      const found = this.#unsaved ? [] : await storage.messages(id)
      this.threads[id] ??= found
    }
  }

  /** The messages that are shown, first to last. */
  shown(id: string): Message[] {
    return path(this.threads[id] ?? [], this.get(id)?.currNode ?? null)
  }

  // -- writing --------------------------------------------------------------------------------------------------

  /** A new conversation with its first message; returns its id. */
  begin(text: string, model: string): string {
    const conv: Conversation = { id: newId(), name: title(text), lastModified: Date.now(), currNode: null, pinned: false }
    this.list.push(conv)
    this.threads[conv.id] = []
    this.say(conv.id, text, model)
    return conv.id
  }

  /** Adds the reader's words below what is shown, and has them answered. */
  say(id: string, text: string, model: string, parent = this.get(id)?.currNode ?? null): void {
    if (this.running[id]) return
    const message = this.#add(id, 'user', text, parent)
    this.#answer(id, message.id, model)
  }

  /** The same words again, changed: a sibling of the old ones. */
  edit(message: Message, text: string, model: string): void {
    this.say(message.convId, text, model, message.parent)
  }

  /** Another answer beside this one; one that failed before it began is replaced. */
  regenerate(message: Message, model: string): void {
    const { convId, parent } = message
    if (this.running[convId]) return
    if (!message.content && !message.reasoningContent) this.#drop(message)
    this.#answer(convId, parent, model)
  }

  /** Shows the sibling `step` places further, down to its newest leaf. */
  turn(message: Message, step: number): void {
    const nodes = this.threads[message.convId] ?? []
    const { index, siblings } = place(nodes, message)
    const conv = this.get(message.convId)
    if (siblings[index + step] && conv) {
      conv.currNode = newestLeaf(nodes, siblings[index + step]!.id)
      this.#save([conv], [])
    }
  }

  siblings(message: Message): { index: number; count: number } {
    const { index, siblings } = place(this.threads[message.convId] ?? [], message)
    return { index, count: siblings.length }
  }

  stop(id: string): void {
    this.running[id]?.stop.abort()
  }

  // -- keeping --------------------------------------------------------------------------------------------------

  rename(id: string, name: string): void {
    const conv = this.get(id)
    if (conv && name.trim()) {
      conv.name = name.trim()
      this.#save([conv], [])
    }
  }

  pin(id: string): void {
    const conv = this.get(id)
    if (conv) {
      conv.pinned = !conv.pinned
      this.#save([conv], [])
    }
  }

  /** Deletes a conversation; for a while it can be had back. */
  async remove(id: string): Promise<void> {
    const conv = this.get(id)
    if (!conv) return
    this.stop(id)
    const kept: Thread = { conv: plain(conv), messages: plain(this.threads[id]) ?? (await storage.messages(id)) }
    this.list = this.list.filter((each) => each.id !== id)
    delete this.threads[id]
    await this.#erase(id, kept.messages.map((message) => message.id))
    toast(`Deleted “${kept.conv.name}”`, { label: 'Undo', run: () => this.#restore(kept) })
  }

  async export(id?: string): Promise<string> {
    const convs = id ? this.list.filter((conv) => conv.id === id) : this.list
    const threads = []
    for (const conv of convs) {
      threads.push({ conv: plain(conv), messages: plain(this.threads[conv.id]) ?? (await storage.messages(conv.id)) })
    }
    return exported(threads)
  }

  /** Takes in a file; says how many conversations came and what was skipped. */
  import(text: string): void {
    const { threads, skipped } = imported(text, new Set(this.list.map((conv) => conv.id)), newId)
    for (const thread of threads) this.#restore(thread)
    const count = `${threads.length} chat${threads.length === 1 ? '' : 's'} imported`
    toast(skipped ? `${count}, ${skipped} skipped: not in a known form` : count)
  }

  /** The conversations whose title or text has these words. */
  async search(words: string): Promise<Set<string>> {
    const wanted = words.toLowerCase()
    const found = new Set(this.list.filter((conv) => conv.name.toLowerCase().includes(wanted)).map((conv) => conv.id))
    const texts = this.#unsaved ? Object.values(this.threads).flat() : await storage.messages()
    for (const message of texts) if (message.content.toLowerCase().includes(wanted)) found.add(message.convId)
    return found
  }

  // -- inside ---------------------------------------------------------------------------------------------------

  #add(convId: string, role: Role, content: string, parent: string | null, model = ''): Message {
    const nodes = this.threads[convId]!
    const timestamp = later(nodes, Date.now())
    nodes.push({
      id: newId(), convId, parent, role, timestamp, content, model, reasoningContent: '', timings: null, failure: null, stopped: false,
    }) // prettier-ignore
    const message = nodes.at(-1)!
    const conv = this.get(convId)!
    conv.currNode = message.id
    conv.lastModified = Date.now()
    this.#save([conv], [message])
    return message
  }

  #drop(message: Message): void {
    const { convId, id } = message
    this.threads[convId] = this.threads[convId]!.filter((each) => each.id !== id)
    void this.#erase('', [id])
  }

  #answer(convId: string, parent: string | null, model: string): void {
    const prompt = path(this.threads[convId]!, parent)
    const message = this.#add(convId, 'assistant', '', parent, model)
    this.running[convId] = { message: message.id, note: '', prefill: null, began: false, stop: new AbortController() }
    void this.#stream(message, body(prompt, model))
  }

  async #stream(message: Message, request: object): Promise<void> {
    const { convId } = message
    const running = this.running[convId]!
    let text = ''
    let reasoning = ''
    let saved = Date.now()
    let frame = 0
    const flush = (): void => {
      frame = 0
      message.content += text
      message.reasoningContent += reasoning
      text = reasoning = ''
      if (Date.now() - saved > SAVE_EVERY && this.get(convId)) {
        saved = Date.now()
        this.#save([], [message])
      }
    }
    const keep = (): void => {
      flush()
      if (this.get(convId)) this.#save([], [message])
    }
    addEventListener('pagehide', keep) // a reload in the middle loses nothing that was shown
    models.waiting++
    void models.refresh()
    const begin = (): void => {
      if (!running.began) {
        running.began = true
        models.waiting--
        void models.refresh() // it may have been loaded for this
      }
    }
    try {
      for await (const found of api.chat(request, running.stop.signal)) {
        for (const event of found) {
          if (event.type === 'text') text += event.text
          else if (event.type === 'reasoning') reasoning += event.text
          else if (event.type === 'timings') message.timings = event.timings
          else if (event.type === 'waiting') running.note = event.note
          else if (event.type === 'prefill') running.prefill = event.share
          else if (event.type === 'failure') message.failure = event.failure
        }
        if (text || reasoning) begin()
        frame ||= requestAnimationFrame(flush)
        if (document.hidden) flush() // no frames there
      }
    } catch (error) {
      if (running.stop.signal.aborted) message.stopped = true
      else if (error instanceof api.ApiFailure) {
        message.failure = { message: error.message, code: error.code }
        if (error.status === 401) models.locked = true
      } else message.failure = { message: String(error), code: 'internal' }
    } finally {
      cancelAnimationFrame(frame)
      removeEventListener('pagehide', keep)
      begin()
      delete this.running[convId]
      keep()
      void models.refresh()
    }
  }

  #restore({ conv, messages }: Thread): void {
    this.list.push(conv)
    this.threads[conv.id] = messages
    this.#save([conv], messages)
  }

  #save(convs: Conversation[], texts: Message[]): void {
    if (this.#unsaved) return
    storage.put(plain(convs), plain(texts)).catch(() => {
      this.#unsaved = true
      toast('This browser cannot store more: what comes now is gone when the page closes.')
    })
  }

  async #erase(convId: string, texts: string[]): Promise<void> {
    if (!this.#unsaved) await storage.remove(convId, texts)
  }
}

function body(prompt: Message[], model: string): object {
  const system = settings.system.trim()
  const sampling = Object.fromEntries(
    SAMPLING.filter((name) => typeof settings.sampling[name] === 'number').map((name) => [name, settings.sampling[name]]),
  )
  return {
    model,
    messages: [
      ...(system ? [{ role: 'system', content: system }] : []),
      ...prompt.filter(({ role, content }) => role === 'user' || content).map(({ role, content }) => ({ role, content })),
    ],
    timings_per_token: true,
    return_progress: true,
    sse_ping_interval: 1,
    ...sampling,
  }
}

/** crypto.randomUUID exists only on secure pages, and this one is often read over plain HTTP. */
function newId(): string {
  const random = crypto.getRandomValues(new Uint8Array(16))
  return [...random].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

export const chats = new Chats()
