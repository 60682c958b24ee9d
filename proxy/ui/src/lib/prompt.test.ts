import { expect, test } from 'vitest'
import { body, custom } from './prompt'
import type { Attachment, Message, Preset } from './types'

const preset = (more: Partial<Preset> = {}): Preset => ({ id: 'p', name: 'P', system: '', sampling: {}, custom: '', ...more })
const said = (role: Message['role'], content: string, extra: Attachment[] = []): Message => ({ role, content, extra }) as Message
const make = (messages: Message[], more: Partial<Parameters<typeof body>[1]> = {}) =>
  body(messages, { model: 'm', preset: preset(), thinking: 'auto', goOn: false, sees: true, ...more }) as any

test('what is not set is not sent', () => {
  expect(make([said('user', 'hi')])).toEqual({
    model: 'm',
    messages: [{ role: 'user', content: 'hi' }],
    timings_per_token: true,
    return_progress: true,
    sse_ping_interval: 1,
  })
})

test('a preset is a system prompt, sampling and fields of its own, which win', () => {
  const found = make([said('user', 'hi')], { preset: preset({ system: ' Be brief. ', sampling: { top_k: 0, seed: 3 }, custom: '{"seed": 4, "grammar": "x"}' }) })
  expect(found.messages[0]).toEqual({ role: 'system', content: 'Be brief.' })
  expect(found).toMatchObject({ top_k: 0, seed: 4, grammar: 'x' })
})

test('custom fields that are no object are nothing', () => {
  expect([custom('nonsense'), custom('[1]'), custom('null'), custom('')]).toEqual([{}, {}, {}, {}])
})

test('empty answers are left out, but for the one to continue', () => {
  const chat = [said('user', 'a'), said('assistant', ''), said('user', 'b'), said('assistant', 'half')]
  expect(make(chat, { goOn: true })).toMatchObject({
    continue_final_message: true,
    messages: [{ content: 'a' }, { content: 'b' }, { content: 'half' }],
  })
  expect(make(chat).continue_final_message).toBeUndefined()
})

test('reasoning is on, off, or of an effort', () => {
  expect(make([], { thinking: 'off' }).chat_template_kwargs).toEqual({ enable_thinking: false })
  expect(make([], { thinking: 'high' }).reasoning_effort).toBe('high')
})

test('files become text, and cannot end their own quotation', () => {
  const { content } = make([said('user', 'Read.', [{ type: 'TEXT', name: 'a\nb.md', content: 'x\n````\ny\n' }])]).messages[0]
  expect(content).toBe('File: a b.md\n`````\nx\n````\ny\n`````\n\nRead.')
})

test('pictures and sound are parts of their own', () => {
  const extra: Attachment[] = [
    { type: 'IMAGE', name: 'a.png', base64Url: 'data:image/png;base64,AA' },
    { type: 'AUDIO', name: 'a.wav', base64Data: 'BB', mimeType: 'audio/wav' },
    { type: 'PDF', name: 'a.pdf', content: 'words', processedAsImages: true, images: ['data:image/jpeg;base64,CC'] },
    { type: 'PDF', name: 'b.pdf', content: 'words', processedAsImages: false },
  ]
  const { content } = make([said('user', 'Look.', extra)]).messages[0]
  expect(content.map((part: { type: string }) => part.type)).toEqual(['image_url', 'input_audio', 'image_url', 'text'])
  expect(content[1].input_audio).toEqual({ data: 'BB', format: 'wav' })
  expect(content[3].text).toBe('File: b.pdf\n```\nwords\n```\n\nLook.')
})

test('the pages of a PDF go as words to a model that reads no images, as long as there are any', () => {
  const pdf = { type: 'PDF', name: 'a.pdf', processedAsImages: true, images: ['data:image/jpeg;base64,CC'] } as const
  const told = (content: string) => make([said('user', 'Look.', [{ ...pdf, content, images: [...pdf.images] }])], { sees: false })
  expect(told('words').messages[0].content).toBe('File: a.pdf\n```\nwords\n```\n\nLook.')
  expect(told('').messages[0].content[0].type).toBe('image_url')
})
