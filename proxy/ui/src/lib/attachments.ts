// Files → what goes along with a message.

import type { Attachment } from './types'

const LARGEST = 32 * 2 ** 20 // bytes of a file
const LONGEST = 2 ** 20 // characters of a text
const EDGE = 2048 // pixels of a picture's longer side; more costs tokens and shows no more
const SENT_AS_IS = new Set(['image/png', 'image/jpeg'])
const TEXT = new Set(
  `bash bat bib c cc cfg clj cmake conf cpp cs css csv cxx dart diff env erl ex exs f90 fs go gradle graphql h hh hpp hs htm html ini
  ipynb java jl js json jsonl jsx kt kts less lisp log lua m make md mjs ml mm nix php pl proto ps1 py r rb rs rst sass scala scss sh
  sql srt svelte svg swift tex text toml ts tsv tsx txt vb vim vtt vue xml yaml yml zig`.split(/\s+/),
)

export type Kind = 'image' | 'audio' | 'pdf' | 'text' | 'unknown'

/** What a file is, by its type and its name. */
export function kindOf(type: string, name: string): Kind {
  const extension = /\.([^.]+)$/.exec(name.toLowerCase())?.[1] ?? ''
  if (type === 'application/pdf' || extension === 'pdf') return 'pdf'
  if (TEXT.has(extension)) return 'text'
  if (type.startsWith('image/')) return 'image'
  if (type.startsWith('audio/') || ['mp3', 'wav'].includes(extension)) return 'audio'
  if (type.startsWith('text/') || /json|xml|javascript|yaml|toml/.test(type)) return 'text'
  return ['dockerfile', 'makefile', 'license', 'readme'].includes(name.toLowerCase()) ? 'text' : 'unknown'
}

/** A file as an attachment. Throws an Error whose message says why it cannot be one. */
export async function attach(file: File, pdfAsImage: boolean): Promise<Attachment> {
  const { name } = file
  if (file.size > LARGEST) throw new Error(`${name} is larger than ${LARGEST / 2 ** 20} MiB`)
  switch (kindOf(file.type, name)) {
    case 'image':
      return { type: 'IMAGE', name, base64Url: await picture(file) }
    case 'audio':
      return sound(file)
    case 'pdf':
      return (await import('./pdf')).read(file, pdfAsImage)
    case 'text':
      return { type: 'TEXT', name, content: text(await file.text(), name) }
    case 'unknown': {
      const content = await file.text()
      if (/[\0\uFFFD]/.test(content)) throw new Error(`${name} is of a kind that models cannot read`)
      return { type: 'TEXT', name, content: text(content, name) }
    }
  }
}

export function text(content: string, name: string): string {
  if (content.length > LONGEST) throw new Error(`${name} has more than ${LONGEST.toLocaleString('en')} characters`)
  return content
}

export const dataUrl = (blob: Blob): Promise<string> =>
  new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.onload = () => resolve(reader.result as string)
    reader.onerror = () => reject(reader.error)
    reader.readAsDataURL(blob)
  })

/** A picture in a form and size that every vision model takes. */
async function picture(file: File): Promise<string> {
  let bitmap
  try {
    bitmap = await createImageBitmap(file)
  } catch {
    throw new Error(`${file.name} is no picture that this browser can read`)
  }
  const scale = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height))
  if (scale === 1 && SENT_AS_IS.has(file.type)) return dataUrl(file)
  const canvas = document.createElement('canvas')
  canvas.width = Math.round(bitmap.width * scale)
  canvas.height = Math.round(bitmap.height * scale)
  canvas.getContext('2d')!.drawImage(bitmap, 0, 0, canvas.width, canvas.height)
  return canvas.toDataURL(file.type === 'image/jpeg' ? 'image/jpeg' : 'image/png', 0.9)
}

async function sound(file: File): Promise<Attachment> {
  const known = /wav|mpeg|mp3/.test(file.type) || /\.(wav|mp3)$/i.test(file.name)
  if (!known) throw new Error(`${file.name}: of sound, WAV and MP3 can be sent`)
  const url = await dataUrl(file)
  const mimeType = /wav/.test(file.type) || /\.wav$/i.test(file.name) ? 'audio/wav' : 'audio/mpeg'
  return { type: 'AUDIO', name: file.name, base64Data: url.slice(url.indexOf(',') + 1), mimeType }
}
