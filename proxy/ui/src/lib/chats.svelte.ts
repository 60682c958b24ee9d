// Conversations: what is stored and what is shown.

import { answers } from './answers.svelte'
import { title } from './format'
import { forget, orphans } from './pending'
import { queue, type Queued } from './queue.svelte'
import * as storage from './storage'
import { toast } from './toasts.svelte'
import { exported, imported, renamed, type Thread } from './transfer'
import { below, later, newestLeaf, path, place } from './tree'
import type { Attachment, Conversation, Message, Role } from './types'

const plain = <T>(value: T): T => $state.snapshot(value) as T
const several = (count: number, thing: string): string => `${count} ${thing}${count === 1 ? '' : 's'}`

class Chats {
  list = $state<Conversation[]>([])
  threads = $state<Record<string, Message[]>>({}) // of the conversations that were opened
  ready = $state(false)
  #unsaved = false

  sorted = $derived([...this.list].sort((a, b) => Number(b.pinned) - Number(a.pinned) || b.lastModified - a.lastModified))

  async start(): Promise<void> {
    answers.keep = (message) => this.get(message.convId) && this.#save([], [message])
    answers.ended = (message) => !message.failure && !message.stopped && message.finish && this.next(message.convId)
    try {
      this.list = await storage.conversations()
      storage.elsewhere((ids) => void this.#reread(ids))
    } catch {
      this.#unsaved = true
      toast('This browser keeps no data for this page: chats are gone when it closes.')
    }
    this.ready = true
    void this.#resume()
  }

  get(id: string): Conversation | undefined {
    return this.list.find((conv) => conv.id === id)
  }

  async open(id: string): Promise<void> {
    queue.open(id)
    if (!this.threads[id] && this.get(id)) {
      const found = await this.#messages(id)
      this.threads[id] ??= found
    }
  }

  /** The messages that are shown, first to last. */
  shown(id: string): Message[] {
    return path(this.threads[id] ?? [], this.get(id)?.currNode ?? null)
  }

  // -- writing --------------------------------------------------------------------------------------------------

  /** A new conversation with its first message; returns its id. */
  begin(text: string, extra: Attachment[], model: string, beside = ''): string {
    const name = title(text || (extra[0]?.name ?? ''))
    const conv: Conversation = { id: newId(), name, lastModified: Date.now(), currNode: null, pinned: false }
    this.list.push(conv)
    this.threads[conv.id] = []
    this.say(conv.id, { text, extra, model, beside })
    return conv.id
  }

  /** Adds the reader's words below what is shown, and has them answered, also by a second model `beside`; in their turn. */
  say(id: string, said: Queued, parent = this.get(id)?.currNode ?? null): void {
    if (answers.busy(id)) {
      queue.add(id, said)
      return
    }
    const { text, extra, model, beside } = said
    const message = this.#add(id, 'user', text, parent, '', extra)
    const mark = beside && newId()
    const first = this.#answer(id, message.id, model, mark)
    if (!beside) return
    this.#answer(id, message.id, beside, mark)
    this.show(first)
  }

  /** Says what waits, one at a time. */
  next(id: string): void {
    if (answers.busy(id) || !this.get(id) || !queue.of(id).length) return
    const said = queue.take(id)
    if (said) this.say(id, said)
  }

  /** The same words again, changed: a sibling of the old ones. */
  edit(message: Message, text: string, model: string): void {
    if (answers.busy(message.convId)) return
    this.say(message.convId, { text, extra: plain(message.extra), model, beside: '' }, message.parent)
  }

  /** Another answer beside this one; one that failed before it began is replaced. */
  regenerate(message: Message, model: string): void {
    const { convId, parent } = message
    if (answers.busy(convId)) return
    if (!message.content && !message.reasoningContent) this.#drop([message])
    this.#answer(convId, parent, model)
  }

  /** Has an answer that ended too early go on where it ended. */
  goOn(message: Message): void {
    if (answers.busy(message.convId)) return
    void answers.stream(message, path(this.threads[message.convId]!, message.id), true)
  }

  /** Shows the sibling `step` places further, down to its newest leaf. */
  turn(message: Message, step: number): void {
    const nodes = this.threads[message.convId] ?? []
    const { index, siblings } = place(nodes, message)
    if (siblings[index + step]) this.show(siblings[index + step]!)
  }

  /** Goes on from this message, or from what is newest below it. */
  show(message: Message): void {
    const conv = this.get(message.convId)
    if (!conv) return
    conv.currNode = newestLeaf(this.threads[message.convId] ?? [], message.id)
    this.#save([conv], [])
  }

  /** The answers that are shown side by side; only this one, if no other model was asked with it. */
  pair(message: Message): Message[] {
    const { siblings } = place(this.threads[message.convId] ?? [], message)
    return message.beside ? siblings.filter((each) => each.beside === message.beside) : [message]
  }

  siblings(message: Message): { index: number; count: number } {
    const { index, siblings } = place(this.threads[message.convId] ?? [], message)
    return { index, count: siblings.length }
  }

  /** Deletes a message with all that hangs below it; for a while it can be had back. */
  cut(message: Message): void {
    const { convId, parent } = message
    const conv = this.get(convId)
    if (!conv || answers.busy(convId)) return
    const { index, siblings } = place(this.threads[convId]!, message)
    const gone = plain(below(this.threads[convId]!, message.id))
    const shown = conv.currNode
    this.#drop(gone)
    const next = siblings[index + 1] ?? siblings[index - 1]
    conv.currNode = next ? newestLeaf(this.threads[convId]!, next.id) : parent
    this.#save([conv], [])
    const back = (): void => {
      this.threads[convId]?.push(...gone)
      conv.currNode = shown
      this.#save([conv], gone)
    }
    toast(`${several(gone.length, 'message')} deleted`, { label: 'Undo', run: back })
  }

  /** A new conversation with all that leads to this message; returns its id. */
  fork(message: Message): string {
    const messages = plain(path(this.threads[message.convId] ?? [], message.id))
    const name = `${this.get(message.convId)?.name ?? ''} (fork)`
    const found = renamed({ conv: { id: '', name, lastModified: Date.now(), currNode: message.id, pinned: false }, messages }, newId)
    this.#restore(found)
    return found.conv.id
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
    answers.stop(id)
    const kept: Thread = { conv: plain(conv), messages: plain(this.threads[id]) ?? (await this.#messages(id)) }
    this.list = this.list.filter((each) => each.id !== id)
    delete this.threads[id]
    await this.#erase(id, kept.messages)
    const text = `Deleted “${kept.conv.name}”, ${several(kept.messages.length, 'message')}`
    toast(text, { label: 'Undo', run: () => this.#restore(kept) })
  }

  async export(id?: string): Promise<string> {
    const convs = id ? this.list.filter((conv) => conv.id === id) : this.list
    const threads = []
    for (const conv of convs) {
      threads.push({ conv: plain(conv), messages: plain(this.threads[conv.id]) ?? (await this.#messages(conv.id)) })
    }
    return exported(threads)
  }

  /** Takes in a file; says how many conversations came and what was skipped. */
  import(text: string): void {
    const { threads, skipped } = imported(text, new Set(this.list.map((conv) => conv.id)), newId)
    for (const thread of threads) this.#restore(thread)
    const count = `${several(threads.length, 'chat')} imported`
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

  #add(convId: string, role: Role, content: string, parent: string | null, model = '', extra: Attachment[] = []): Message {
    const nodes = this.threads[convId]!
    const timestamp = later(nodes, Date.now())
    nodes.push({
      id: newId(), convId, parent, role, timestamp, content, model, extra, reasoningContent: '', timings: null, failure: null,
      stopped: false, finish: '',
    }) // prettier-ignore
    const message = nodes.at(-1)!
    const conv = this.get(convId)!
    conv.currNode = message.id
    conv.lastModified = Date.now()
    this.#save([conv], [message])
    return message
  }

  #drop(gone: Message[]): void {
    const ids = new Set(gone.map((message) => message.id))
    const convId = gone[0]!.convId
    this.threads[convId] = this.threads[convId]!.filter((each) => !ids.has(each.id))
    void this.#erase('', gone)
  }

  #answer(convId: string, parent: string | null, model: string, beside = ''): Message {
    const prompt = path(this.threads[convId]!, parent)
    const message = this.#add(convId, 'assistant', '', parent, model)
    if (beside) message.beside = beside
    void answers.stream(message, prompt, false)
    return message
  }

  /** Goes on with answers that were coming when the page went. */
  async #resume(): Promise<void> {
    for (const pending of this.#unsaved ? [] : orphans(Date.now())) {
      await this.open(pending.convId)
      const message = this.threads[pending.convId]?.find((each) => each.id === pending.id)
      if (!message || answers.running[pending.id]) forget(pending.id)
      else void answers.resume(message, pending)
    }
  }

  /** Another tab has written these; what is being answered here is ours. */
  async #reread(ids: string[]): Promise<void> {
    this.list = await storage.conversations()
    for (const id of ids) {
      if (this.threads[id] && !answers.busy(id)) this.threads[id] = await storage.messages(id)
    }
  }

  async #messages(id: string): Promise<Message[]> {
    return this.#unsaved ? [] : storage.messages(id)
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

  async #erase(convId: string, texts: Message[]): Promise<void> {
    if (!this.#unsaved) await storage.remove(convId, plain(texts))
  }
}

/** crypto.randomUUID exists only on secure pages, and this one is often read over plain HTTP. */
export function newId(): string {
  const random = crypto.getRandomValues(new Uint8Array(16))
  return [...random].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

export const chats = new Chats()
