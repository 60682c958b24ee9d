// What a conversation needs its model to read, and whether a model can. Pure.

import type { Attachment, Message, Modality, Model } from './types'

export type Needs = ReadonlySet<Modality>

/** The modalities beside text that these attachments cannot do without; a PDF with words can be read as such. */
export function needs(extra: readonly Attachment[]): Needs {
  const found = new Set<Modality>()
  for (const each of extra) {
    if (each.type === 'IMAGE' || (each.type === 'PDF' && each.processedAsImages && !each.content)) found.add('image')
    if (each.type === 'AUDIO') found.add('audio')
  }
  return found
}

export const needsOf = (messages: readonly Message[]): Needs => needs(messages.flatMap((message) => message.extra))

/** Whether the model reads this; undefined where the server does not say. */
export function reads(model: Model, modality: Modality): boolean | undefined {
  const listed = model.architecture?.input_modalities
  const said = modality === 'image' ? model.capabilities?.vision : modality === 'audio' ? model.capabilities?.audio : undefined
  if (said !== undefined) return said
  return listed ? listed.includes(modality) : undefined
}

const WORDS: Partial<Record<Modality, string>> = { image: 'images', audio: 'sound', video: 'video' }

/** That a model cannot read this; "" if there is nothing that it cannot. */
export function lacking(id: string, missing: readonly Modality[]): string {
  return missing.length ? `${id} does not read ${missing.map((modality) => WORDS[modality]).join(' or ')}` : ''
}

/** Whether one can talk to it at all. */
export function chats(model: Model): boolean {
  return !model.capabilities?.embedding && !model.capabilities?.reranker
}
