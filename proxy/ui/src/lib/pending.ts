// Answers that are on their way, as they outlive the page: where to go on reading each.

import type { Place } from './api'
import { keep, recall } from './stored'
import type { Message } from './types'

const key = (id: string): string => `lsv.stream ${new URL('.', document.baseURI).pathname} ${id}` // of one origin, each base path has its own
const ALIVE = 5000 // milliseconds within which a page that reads an answer says so again

/** The lengths of an answer's text and reasoning. */
export interface Length {
  text: number
  reasoning: number
}

export interface Pending extends Place, Length {
  convId: string
  base: Length // before the stream: what an answer that is continued had
  at: number // when its reader was last seen, in milliseconds; 0: it has gone
}

export const lengthOf = (message: Message): Length => ({ text: message.content.length, reasoning: message.reasoningContent.length })

export const note = (pending: Pending): void => keep(key(pending.id), pending)
export const forget = (id: string): void => keep(key(id), undefined)

/** Those that no page reads. */
export function orphans(now: number): Pending[] {
  const names = Object.keys(localStorage).filter((each) => each.startsWith(key('')))
  return names.flatMap((name) => recall<Pending | []>(name, [])).filter((each) => now - each.at > ALIVE)
}

/** Takes a message back to where its stream was read up to. */
export function rewind(message: Message, pending: Pending): void {
  const known = message.content.length >= pending.text && message.reasoningContent.length >= pending.reasoning
  const { text, reasoning } = known ? pending : pending.base
  if (!known) pending.bytes = 0
  message.content = message.content.slice(0, text)
  message.reasoningContent = message.reasoningContent.slice(0, reasoning)
}
