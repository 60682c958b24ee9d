// Conversations as files: one JSON object, or llama-server's JSON lines and {conv, messages}. Pure.

import { children } from './tree'
import type { Attachment, Conversation, Message } from './types'

export interface Thread {
  conv: Conversation
  messages: Message[]
}

/** JSON lines: {"type":"session", …conversation}, then its messages, each with the children it has. */
export function exported(threads: Thread[]): string {
  const lines: object[] = []
  for (const { conv, messages } of threads) {
    lines.push({ type: 'session', ...conv })
    for (const message of messages) {
      lines.push({ ...message, type: 'message', children: children(messages, message.id).map((child) => child.id) })
    }
  }
  return lines.map((line) => JSON.stringify(line)).join('\n') + '\n'
}

/** The conversations of a file; `skipped` counts what could not be read. `newId` names those whose id is taken. */
export function imported(text: string, taken: Set<string>, newId: () => string): { threads: Thread[]; skipped: number } {
  const { found, skipped } = parse(text)
  const threads = found.map((thread) => (taken.has(thread.conv.id) ? renamed(thread, newId) : thread))
  return { threads, skipped }
}

function parse(text: string): { found: Thread[]; skipped: number } {
  let skipped = 0
  const found: Thread[] = []
  const take = (conv: unknown, messages: unknown[]): void => {
    const thread = checked(conv, messages)
    if (thread) found.push(thread)
    else skipped++
  }
  let whole
  try {
    whole = JSON.parse(text)
  } catch {
    whole = undefined
  }
  if (whole !== undefined && whole?.type !== 'session') {
    for (const each of Array.isArray(whole) ? whole : [whole]) take(each?.conv, each?.messages ?? [])
    return { found, skipped }
  }
  let conv: unknown
  let messages: unknown[] = []
  for (const line of text.split('\n').filter((each) => each.trim())) {
    try {
      const record = JSON.parse(line)
      if (record.type === 'session') {
        if (conv) take(conv, messages)
        conv = record
        messages = []
      } else messages.push(record)
    } catch {
      skipped++
    }
  }
  if (conv) take(conv, messages)
  return { found, skipped }
}

/** A thread with the fields we know, or undefined. */
function checked(conv: any, messages: any[]): Thread | undefined {
  if (typeof conv?.id !== 'string' || !Array.isArray(messages)) return undefined
  const usable = messages.filter((each) => typeof each?.id === 'string' && ['user', 'assistant'].includes(each.role))
  const ids = new Set(usable.map((each) => each.id))
  return {
    conv: {
      id: conv.id,
      name: String(conv.name ?? 'Imported chat'),
      lastModified: Number(conv.lastModified) || 0,
      currNode: ids.has(conv.currNode) ? conv.currNode : (usable.at(-1)?.id ?? null),
      pinned: Boolean(conv.pinned),
    },
    messages: usable.map((each) => ({
      id: each.id,
      convId: conv.id,
      parent: ids.has(each.parent) ? each.parent : null, // a root or a system message of another program
      role: each.role,
      timestamp: Number(each.timestamp) || 0,
      content: typeof each.content === 'string' ? each.content : '',
      reasoningContent: typeof each.reasoningContent === 'string' ? each.reasoningContent : '',
      model: typeof each.model === 'string' ? each.model : '',
      timings: each.timings && typeof each.timings.predicted_n === 'number' ? each.timings : null,
      failure: each.failure && typeof each.failure.message === 'string' ? each.failure : null,
      stopped: Boolean(each.stopped),
      finish: typeof each.finish === 'string' ? each.finish : '',
      extra: Array.isArray(each.extra) ? each.extra.flatMap(attachment) : [],
      ...(each.toolCalls ? { toolCalls: each.toolCalls } : {}),
    })),
  }
}

/** An attachment of a known form, in our own fields; its address must hold the picture itself. */
export function attachment(each: any): Attachment[] {
  const name = String(each?.name ?? 'file')
  const text = typeof each?.content === 'string' ? each.content : ''
  const inside = (url: unknown): url is string => typeof url === 'string' && url.startsWith('data:image/')
  switch (each?.type) {
    case 'IMAGE':
    case 'imageFile':
      return inside(each.base64Url) ? [{ type: 'IMAGE', name, base64Url: each.base64Url }] : []
    case 'AUDIO':
    case 'audioFile':
      if (typeof each.base64Data !== 'string') return []
      return [{ type: 'AUDIO', name, base64Data: each.base64Data, mimeType: String(each.mimeType ?? '') }]
    case 'PDF':
    case 'pdfFile': {
      const images = Array.isArray(each.images) ? each.images.filter(inside) : []
      return [{ type: 'PDF', name, content: text, processedAsImages: Boolean(each.processedAsImages && images.length), images }]
    }
    case 'TEXT':
    case 'textFile':
    case 'context':
      return [{ type: 'TEXT', name, content: text }]
    default:
      return []
  }
}

/** The same under new names. */
export function renamed({ conv, messages }: Thread, newId: () => string): Thread {
  const names = new Map(messages.map((message) => [message.id, newId()]))
  const convId = newId()
  return {
    conv: { ...conv, id: convId, currNode: names.get(conv.currNode ?? '') ?? null },
    messages: messages.map((message) => ({
      ...message,
      id: names.get(message.id)!,
      convId,
      parent: names.get(message.parent ?? '') ?? null,
    })),
  }
}
