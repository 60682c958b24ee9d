import { expect, test } from 'vitest'
import { chats, lacking, needs, reads } from './modalities'
import type { Attachment, Model } from './types'

const model = (more: Partial<Model>): Model => ({ id: 'm', ...more }) as Model
const image: Attachment = { type: 'IMAGE', name: 'a.png', base64Url: 'data:image/png;base64,' }
const pdf = (processedAsImages: boolean, content = ''): Attachment => ({ type: 'PDF', name: 'a.pdf', content, processedAsImages })

test('what attachments need', () => {
  expect([...needs([image, { type: 'TEXT', name: 'a.txt', content: '' }])]).toEqual(['image'])
  expect([...needs([pdf(false), pdf(true, 'its words')])]).toEqual([])
  expect([...needs([pdf(true), { type: 'AUDIO', name: 'a.wav', base64Data: '', mimeType: 'audio/wav' }])]).toEqual(['image', 'audio'])
})

test('a model reads what it says, and no more', () => {
  expect(reads(model({ capabilities: { vision: true } }), 'image')).toBe(true)
  expect(reads(model({ architecture: { input_modalities: ['text', 'audio'] } }), 'audio')).toBe(true)
  expect(reads(model({}), 'image')).toBeUndefined()
  expect(lacking('m', ['image', 'audio'])).toBe('m does not read images or sound')
  expect(lacking('m', [])).toBe('')
})

test('embedding models are no partners', () => {
  expect(chats(model({ capabilities: { embedding: true } }))).toBe(false)
  expect(chats(model({}))).toBe(true)
})
