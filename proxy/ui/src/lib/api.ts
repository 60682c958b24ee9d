// The only place that asks the server. Addresses are relative to the page, so that any sub-path works.

import { feedEvent, type FeedEvent } from './feed'
import { events, SseReader, type ChatEvent } from './sse'
import type { Asked, Death, Failure, Model } from './types'

export class ApiFailure extends Error implements Failure {
  constructor(
    message: string,
    readonly code: string,
    readonly status: number,
  ) {
    super(message)
  }
}

const KEY = 'lsv.key'
const PATIENCE = 15_000 // milliseconds for an answer that the server has at hand
const SILENCE = 30_000 // milliseconds without a word in an answer, which has one each second, even if it is a comment
let key = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? ''

export function useKey(text: string, keep: boolean): void {
  forgetKey()
  key = text
  ;(keep ? localStorage : sessionStorage).setItem(KEY, text)
}

export function forgetKey(): void {
  key = ''
  sessionStorage.removeItem(KEY)
  localStorage.removeItem(KEY)
}

export const hasKey = (): boolean => key !== ''

interface Options {
  method?: string
  body?: object
  signal?: AbortSignal
  headers?: Record<string, string>
  deadline?: number // milliseconds
}

async function request(path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) }
  if (options.body) headers['Content-Type'] = 'application/json'
  let response
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method: options.method ?? (options.body ? 'POST' : 'GET'),
      headers,
      body: options.body ? JSON.stringify(options.body) : undefined,
      signal: options.deadline ? AbortSignal.timeout(options.deadline) : options.signal,
      cache: 'no-store',
    })
  } catch (error) {
    if (options.signal?.aborted) throw error
    throw new ApiFailure('The server cannot be reached.', 'unreachable', 0)
  }
  if (response.ok) return response
  const error = await response.json().then((body) => body.error, () => undefined)
  throw new ApiFailure(error?.message ?? `The server answered ${response.status}.`, error?.code ?? 'http', response.status)
}

const json = async (path: string): Promise<any> => (await request(path, { deadline: PATIENCE })).json()

/** Whether a failure only says that this server does not have the route. */
export const missing = (error: unknown): boolean =>
  error instanceof ApiFailure && (['not_found', 'method_not_allowed'].includes(error.code) || error.status === 501)

export const listModels = async (): Promise<Model[]> => (await json('v1/models')).data

export interface Props {
  role?: string
  max_instances?: number
  default_generation_settings: { params: Record<string, number | undefined>; n_ctx: number }
  modalities?: { vision?: boolean; audio?: boolean }
  chat_template?: string
  chat_template_caps?: Record<string, boolean>
  total_slots?: number
}

export const props = (model = ''): Promise<Props> =>
  json(model ? `props?model=${encodeURIComponent(model)}&autoload=false` : 'props')

export const load = (model: string): Promise<unknown> => request('models/load', { body: { model } })
export const unload = (model: string): Promise<unknown> => request('models/unload', { body: { model } })
export const unloadAll = (): Promise<unknown> => request('api/models/unload', { method: 'POST' })

// -- for who runs the box ---------------------------------------------------------------------------------------

export const deaths = async (): Promise<Death[]> => (await json('admin/deaths')).deaths
export const metrics = async (): Promise<string> => (await request('metrics')).text()
export const activity = (): Promise<{ running: Asked[]; recent: Asked[] }> => json('activity')
export const cancel = (id: string): Promise<unknown> => request(`requests/${encodeURIComponent(id)}/cancel`, { body: {} })
export const pull = (model: string): Promise<unknown> => request('models', { body: { model } })
export const remove = (model: string): Promise<unknown> =>
  request(`models?model=${encodeURIComponent(model)}`, { method: 'DELETE' })

/** Whether models can be downloaded: an order without a name is refused as such where there are downloads. */
export async function pulls(): Promise<boolean> {
  try {
    await request('models', { body: {} })
    return true
  } catch (error) {
    return error instanceof ApiFailure && error.status === 400
  }
}

export const log = async (model: string): Promise<string> =>
  (await request(model ? `logs?model=${encodeURIComponent(model)}` : 'logs')).text()

/** A log as it is written, the past first. */
export async function followLog(model: string, take: (text: string) => void, signal: AbortSignal): Promise<void> {
  const path = model ? `logs/stream/${model.split('/').map(encodeURIComponent).join('/')}` : 'logs/stream'
  const bytes = (await request(path, { signal })).body!.getReader()
  const decoder = new TextDecoder()
  for (;;) {
    const piece = await bytes.read()
    if (piece.done) return
    take(decoder.decode(piece.value, { stream: true }))
  }
}

// -- streams ----------------------------------------------------------------------------------------------------

/** The events of the models. Returns when the stream ends; throws when it cannot begin. `opened`: it has begun. */
export async function watch(lastId: string, opened: () => void, take: (event: FeedEvent, id?: string) => void, signal: AbortSignal): Promise<void> {
  const headers: Record<string, string> = lastId ? { 'Last-Event-ID': lastId } : {}
  const response = await request('models/sse', { signal, headers })
  const bytes = response.body!.getReader()
  const reader = new SseReader()
  opened()
  for (;;) {
    const piece = await bytes.read()
    if (piece.done) return
    for (const item of reader.feed(piece.value)) {
      const event = feedEvent(item)
      if (event) take(event, item.kind === 'data' ? item.id : undefined)
    }
  }
}

/** How far a stream has been read: its name, and the bytes up to the end of the last record. */
export interface Place {
  id: string
  bytes: number
}

/** The events of one answer, as they come. Throws ApiFailure when it cannot begin, or ends without its end. */
export async function* chat(body: object, place: Place, signal: AbortSignal): AsyncGenerator<ChatEvent[]> {
  const headers = { 'X-Conversation-Id': place.id }
  yield* read(await request('v1/chat/completions', { body: { ...body, stream: true }, headers, signal }), place, signal)
}

/** The rest of an answer that went on without a reader. Throws ApiFailure, `missing` if the server has not kept it. */
export async function* resume(place: Place, signal: AbortSignal): AsyncGenerator<ChatEvent[]> {
  yield* read(await request(`v1/stream?conv_id=${encodeURIComponent(place.id)}&from=${place.bytes}`, { signal }), place, signal)
}

/** Ends an answer that would go on without a reader. */
export const drop = (id: string): Promise<unknown> =>
  request(`v1/stream?conv_id=${encodeURIComponent(id)}`, { method: 'DELETE' }).catch(() => undefined)

async function* read(response: Response, place: Place, signal: AbortSignal): AsyncGenerator<ChatEvent[]> {
  const from = place.bytes
  const bytes = response.body!.getReader()
  const reader = new SseReader()
  for (;;) {
    let piece
    try {
      piece = await next(bytes)
    } catch (error) {
      if (signal.aborted) throw error
    }
    if (!piece?.value) throw new ApiFailure('The connection was lost before the answer was complete.', 'interrupted', 0)
    const found = reader.feed(piece.value).flatMap(events)
    if (found.length) yield found
    place.bytes = from + reader.whole
    if (found.some((event) => event.type === 'done' || event.type === 'failure')) return
  }
}

/** The next bytes; undefined when the line is dead without having been closed. */
async function next(bytes: ReadableStreamDefaultReader<Uint8Array>): Promise<ReadableStreamReadResult<Uint8Array> | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<undefined>((done) => (timer = setTimeout(done, SILENCE)))
  const piece = await Promise.race([bytes.read(), late])
  clearTimeout(timer)
  if (!piece) void bytes.cancel()
  return piece
}
