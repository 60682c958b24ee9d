import { expect, test } from 'vitest'
import { attachment, exported, imported, type Thread } from './transfer'
import type { Message } from './types'

const message = (id: string, parent: string | null, role: Message['role']): Message => ({
  id, parent, role, convId: 'c', timestamp: 1, content: `text of ${id}\n"quoted"`, reasoningContent: '', model: 'm', timings: null, failure: null, stopped: false, finish: '', extra: [],
}) // prettier-ignore
const THREAD: Thread = {
  conv: { id: 'c', name: 'A chat', lastModified: 5, currNode: 'a', pinned: true },
  messages: [message('q', null, 'user'), { ...message('a', 'q', 'assistant'), toolCalls: '[]' }],
}
const ids = () => {
  let next = 0
  return () => `new${next++}`
}

test('what is exported comes back the same', () => {
  const other = { conv: { ...THREAD.conv, id: 'd', currNode: null }, messages: [] }
  expect(imported(exported([THREAD, other]), new Set(), ids())).toEqual({ threads: [THREAD, other], skipped: 0 })
})

test('the file names the children of each message', () => {
  expect(JSON.parse(exported([THREAD]).split('\n')[1]!)).toMatchObject({ type: 'message', id: 'q', children: ['a'] })
})

test('a taken id gets a new one, and the tree holds together', () => {
  const { threads } = imported(exported([THREAD]), new Set(['c']), ids())
  const { conv, messages } = threads[0]!
  expect(conv.id).not.toBe('c')
  expect(conv.currNode).toBe(messages[1]!.id)
  expect(messages[1]!.parent).toBe(messages[0]!.id)
  expect(messages.every((each) => each.convId === conv.id)).toBe(true)
})

test('the older form is read, and a root of another program falls away', () => {
  const root = { id: 'r', role: 'system', parent: null }
  const messages = [root, { id: 'q', role: 'user', parent: 'r', content: 'hi' }]
  const { threads, skipped } = imported(JSON.stringify([{ conv: { id: 'x' }, messages }, { junk: 1 }]), new Set(), ids())
  expect(skipped).toBe(1)
  expect(threads[0]!.messages).toMatchObject([{ id: 'q', parent: null, content: 'hi' }])
  expect(threads[0]!.conv.currNode).toBe('q')
})

test('attachments come back, and none that would be fetched from elsewhere', () => {
  const extra = [
    { type: 'IMAGE', name: 'a.png', base64Url: 'data:image/png;base64,AA' },
    { type: 'PDF', name: 'a.pdf', content: 'words', processedAsImages: false, images: [] },
  ] as Message['extra']
  const thread = { ...THREAD, messages: [{ ...message('q', null, 'user'), extra }] }
  expect(imported(exported([thread]), new Set(), ids()).threads[0]!.messages[0]!.extra).toEqual(extra)
  expect(attachment({ type: 'IMAGE', name: 'x', base64Url: 'https://elsewhere.example/x.png' })).toEqual([])
  expect(attachment({ type: 'imageFile', name: 'x', base64Url: 'data:image/png;base64,AA' })).toHaveLength(1)
  expect(attachment({ type: 'unknown' })).toEqual([])
})

test('what is no export at all is skipped, not believed', () => {
  expect(imported('not json', new Set(), ids())).toEqual({ threads: [], skipped: 1 })
  expect(imported('{"a":1}', new Set(), ids())).toEqual({ threads: [], skipped: 1 })
})
