// The only place that asks the server. Addresses are relative to the page, so that any sub-path works.

import { events, SseReader, type ChatEvent } from './sse'
import type { Failure, Model } from './types'

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

async function request(path: string, options: { body?: object; signal?: AbortSignal } = {}): Promise<Response> {
  const headers: Record<string, string> = key ? { Authorization: `Bearer ${key}` } : {}
  if (options.body) headers['Content-Type'] = 'application/json'
  let response
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method: options.body ? 'POST' : 'GET',
      headers,
      body: options.body ? JSON.stringify(options.body) : undefined,
      signal: options.signal,
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

export async function listModels(): Promise<Model[]> {
  return (await (await request('v1/models')).json()).data
}

export interface Props {
  max_instances?: number
  default_generation_settings: { params: Record<string, number | undefined>; n_ctx: number }
}

export async function props(model = ''): Promise<Props> {
  return (await request(model ? `props?model=${encodeURIComponent(model)}&autoload=false` : 'props')).json()
}

export async function load(model: string): Promise<void> {
  await request('models/load', { body: { model } })
}

export async function unload(model: string): Promise<void> {
  await request('models/unload', { body: { model } })
}

/** The events of one answer, as they come. Throws ApiFailure when it cannot begin, or ends without its end. */
export async function* chat(body: object, signal: AbortSignal): AsyncGenerator<ChatEvent[]> {
  const response = await request('v1/chat/completions', { body: { ...body, stream: true }, signal })
  const bytes = response.body!.getReader()
  const reader = new SseReader()
  for (;;) {
    let piece
    try {
      piece = await bytes.read()
    } catch (error) {
      if (signal.aborted) throw error
      piece = { done: true as const, value: undefined }
    }
    if (piece.done) throw new ApiFailure('The connection was lost before the answer was complete.', 'interrupted', 0)
    const found = reader.feed(piece.value).flatMap(events)
    if (found.length) yield found
    if (found.some((event) => event.type === 'done' || event.type === 'failure')) return
  }
}
