// Messages and settings → the body of a request. Pure. What the reader has not set is not sent.

import { SAMPLING, type Attachment, type Message, type Preset, type Thinking } from './types'

type Part = { type: 'text'; text: string } | { type: 'image_url'; image_url: { url: string } } | { type: 'input_audio'; input_audio: { data: string; format: string } }

interface Options {
  model: string
  preset: Preset
  thinking: Thinking
  goOn: boolean // the last message is an answer that shall be continued
  sees: boolean // the model reads images
}

/** The body of POST /v1/chat/completions. */
export function body(messages: readonly Message[], { model, preset, thinking, goOn, sees }: Options): Record<string, unknown> {
  const system = preset.system.trim()
  const said = messages.filter((message) => message.role === 'user' || message.content || (goOn && message === messages.at(-1)))
  return {
    model,
    messages: [...(system ? [{ role: 'system', content: system }] : []), ...said.map((message) => spoken(message, sees))],
    timings_per_token: true,
    return_progress: true,
    sse_ping_interval: 1,
    ...Object.fromEntries(SAMPLING.filter((name) => typeof preset.sampling[name] === 'number').map((name) => [name, preset.sampling[name]])),
    ...reasoning(thinking),
    ...(goOn ? { continue_final_message: true } : {}),
    ...custom(preset.custom),
  }
}

/** The reader's own fields; {} for what is no JSON object. */
export function custom(text: string): object {
  try {
    const found = JSON.parse(text || '{}')
    return found && typeof found === 'object' && !Array.isArray(found) ? found : {}
  } catch {
    return {}
  }
}

function reasoning(thinking: Thinking): object {
  if (thinking === 'auto') return {}
  if (thinking === 'on' || thinking === 'off') return { chat_template_kwargs: { enable_thinking: thinking === 'on' } }
  return { reasoning_effort: thinking }
}

function spoken({ role, content, extra }: Message, sees: boolean): { role: string; content: string | Part[] } {
  if (!extra.length) return { role, content }
  const parts = extra.flatMap((each) => part(each, sees))
  const text = [...parts.filter((each) => each.type === 'text').map((each) => each.text), content].filter(Boolean).join('\n\n')
  const media = parts.filter((each) => each.type !== 'text')
  return { role, content: media.length ? [...media, ...(text ? [{ type: 'text' as const, text }] : [])] : text }
}

/** A PDF goes as pictures of its pages to a model that reads them, or if it has no words. */
function part(each: Attachment, sees: boolean): Part[] {
  if (each.type === 'IMAGE') return [{ type: 'image_url', image_url: { url: each.base64Url } }]
  if (each.type === 'AUDIO') {
    const format = each.mimeType.includes('wav') ? 'wav' : 'mp3'
    return [{ type: 'input_audio', input_audio: { data: each.base64Data, format } }]
  }
  if (each.type === 'PDF' && each.processedAsImages && (sees || !each.content)) {
    return (each.images ?? []).map((url) => ({ type: 'image_url', image_url: { url } }))
  }
  return [{ type: 'text', text: quoted(each.name, each.content) }]
}

/** A file's text between marks that it does not contain itself. */
function quoted(name: string, text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`{3,}/g)].map((marks) => marks[0].length))
  const fence = '`'.repeat(longest + 1)
  return `File: ${name.replace(/[\r\n]/g, ' ')}\n${fence}\n${text.replace(/\n$/, '')}\n${fence}`
}
