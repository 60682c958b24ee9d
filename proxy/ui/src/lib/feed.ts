// What GET /models/sse says. Pure.

import type { Item } from './sse'

export type FeedEvent =
  | { type: 'progress'; model: string; value: number; current?: string }
  | { type: 'download'; model: string; done: number; total: number }
  | { type: 'failed'; model: string; message: string } // a download has
  | { type: 'changed'; model: string } // how it is now is asked for
  | { type: 'death'; model: string }

/** What one record means to these pages; undefined for what they do not know. */
export function feedEvent(item: Item): FeedEvent | undefined {
  if (item.kind !== 'data') return undefined
  let record
  try {
    record = JSON.parse(item.data)
  } catch {
    return undefined
  }
  const { model, event, data } = record ?? {}
  if (typeof model !== 'string') return undefined
  if (event === 'model_death') return { type: 'death', model }
  if (event === 'download_progress') {
    const files: { done?: number; total?: number }[] = Object.values(data?.progress ?? {})
    const sum = (name: 'done' | 'total') => files.reduce((all, file) => all + (Number(file?.[name]) || 0), 0)
    return { type: 'download', model, done: sum('done'), total: sum('total') }
  }
  if (event === 'download_failed') return { type: 'failed', model, message: String(data?.message ?? 'the download failed') }
  const value = data?.progress?.value
  if (event === 'status_change' && data?.status === 'loading' && typeof value === 'number' && !data.snapshot) {
    return { type: 'progress', model, value, current: data.progress.current }
  }
  return { type: 'changed', model }
}
