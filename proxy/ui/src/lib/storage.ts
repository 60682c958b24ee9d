// Conversations and messages in IndexedDB. Where a browser refuses it, they live as long as the page.

import { keep, recall } from './stored'
import type { Conversation, Message } from './types'

const PLACE = new URL('.', document.baseURI).pathname // of one origin, each base path has its own
const NAME = `llama-supervisor ${PLACE}`
const VERSION = 1
let opening: Promise<IDBDatabase> | undefined

function open(): Promise<IDBDatabase> {
  return (opening ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, VERSION)
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore('conversations', { keyPath: 'id' })
      asked.result.createObjectStore('messages', { keyPath: 'id' }).createIndex('convId', 'convId')
    }
    asked.onsuccess = () => resolve(asked.result)
    asked.onerror = () => reject(asked.error)
  }))
}

const done = (transaction: IDBTransaction): Promise<void> =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve()
    transaction.onabort = () => reject(transaction.error)
  })

const result = <T>(asked: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result)
    asked.onerror = () => reject(asked.error)
  })

const RESCUE = 'lsv.rescue.'

/** Keeps a message at once, while the page goes: what is being written to the database then may never arrive there. */
export const rescue = (message: Message): void => keep(RESCUE + message.id, message, sessionStorage)

/** A message as an older version of these pages may have stored it, or as it was when the page went. */
function whole(stored: Message): Message {
  const found = { ...stored, extra: stored.extra ?? [], finish: stored.finish ?? 'stop' }
  const saved = recall<Message | null>(RESCUE + stored.id, null, sessionStorage)
  if (!saved) return found
  keep(RESCUE + stored.id, undefined, sessionStorage)
  const { content, reasoningContent, timings } = saved
  const longer = content.length + reasoningContent.length > found.content.length + found.reasoningContent.length
  if (longer) void put([], [Object.assign(found, { content, reasoningContent, timings })])
  return found
}

export async function conversations(): Promise<Conversation[]> {
  return result((await open()).transaction('conversations').objectStore('conversations').getAll())
}

export async function messages(convId?: string): Promise<Message[]> {
  const store = (await open()).transaction('messages').objectStore('messages')
  const found: Message[] = await result(convId === undefined ? store.getAll() : store.index('convId').getAll(convId))
  return found.map(whole)
}

/** Writes these; all or nothing. */
export async function put(convs: Conversation[], texts: Message[]): Promise<void> {
  const transaction = (await open()).transaction(['conversations', 'messages'], 'readwrite')
  for (const conv of convs) transaction.objectStore('conversations').put(conv)
  for (const text of texts) transaction.objectStore('messages').put(text)
  await done(transaction)
  tell([...convs.map((conv) => conv.id), ...texts.map((text) => text.convId)])
}

export async function remove(convId: string, texts: Message[]): Promise<void> {
  const transaction = (await open()).transaction(['conversations', 'messages'], 'readwrite')
  if (convId) transaction.objectStore('conversations').delete(convId)
  for (const text of texts) transaction.objectStore('messages').delete(text.id)
  await done(transaction)
  tell([convId, ...texts.map((text) => text.convId)])
}

// -- other tabs -------------------------------------------------------------------------------------------------

const channel = typeof BroadcastChannel === 'undefined' ? undefined : new BroadcastChannel(NAME)

function tell(ids: string[]): void {
  channel?.postMessage([...new Set(ids)].filter(Boolean))
}

/** Calls `changed` with the conversations that another tab has written. */
export function elsewhere(changed: (ids: string[]) => void): void {
  channel?.addEventListener('message', (event: MessageEvent<string[]>) => changed(event.data))
}
