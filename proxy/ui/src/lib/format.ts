// Numbers and times as people read them.

import type { Model, Timings } from './types'

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

export function bytes(count: number): string {
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(count || 1) / 10)))
  const value = count / 2 ** (10 * power)
  return `${value.toFixed(value < 10 && power ? 1 : 0)} ${UNITS[power]}`
}

/** 134515008 → "135M" */
export function parameters(count: number): string {
  for (const [size, letter] of [[1e9, 'B'], [1e6, 'M'], [1e3, 'k']] as const) {
    if (count >= size) return `${(count / size).toFixed(count / size < 10 ? 1 : 0)}${letter}`
  }
  return String(count)
}

/** 32768 → "32k" */
export function context(tokens: number): string {
  return tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}k` : tokens.toLocaleString('en')
}

export function duration(seconds: number): string {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`
  if (seconds < 60) return `${Math.round(seconds)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86400)} d`
}

/** For how long something has been so, in whole seconds or more. */
export function age(seconds: number): string {
  return seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds)
}

const FEW = 8 // tokens of a prompt, whose speed says nothing

/** What stands under an answer. */
export function statistics(timings: Timings): string[] {
  const { predicted_per_second: rate, prompt_per_second: read } = timings
  return [
    `${timings.predicted_n} token${timings.predicted_n === 1 ? '' : 's'}`,
    ...(rate > 0 ? [`${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`] : []),
    duration((timings.prompt_ms + timings.predicted_ms) / 1000),
    `prompt ${timings.prompt_n + timings.cache_n}${timings.cache_n ? ` (${timings.cache_n} cached)` : ''}${timings.prompt_n > FEW ? ` at ${read.toFixed(0)}/s` : ''}`,
  ]
}

const CAUSES: Record<string, string> = {
  load_error: 'could not be loaded',
  file_missing: 'its file is missing',
  file_corrupt: 'its file is damaged',
  out_of_memory: 'not enough memory',
  oom_killed: 'killed: the machine ran out of memory',
  crashed: 'crashed',
  killed: 'killed',
  hung: 'stopped answering',
  load_timeout: 'took too long to load',
  config_error: 'wrong configuration',
  insufficient_memory: 'not enough memory',
  download_error: 'could not be downloaded',
  exited: 'ended by itself',
  restart_limit: 'died too often',
  unkillable: 'cannot be ended',
}

/** Why a model is not there, in one line; "" if nothing is wrong. */
export function cause({ status }: Model): string {
  if (!['failed', 'backoff'].includes(status.state) && !(status.state === 'unloaded' && status.cause)) return '' // unloaded: its file is bad
  const words = CAUSES[status.cause ?? ''] ?? status.cause ?? 'failed'
  const signal = status.signal ? ` (${status.signal})` : ''
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${signal}${status.message ? `: ${status.message}` : ''}`
}

/** "42 %" while it loads, "retry in 4 s", "2 waiting", …: what a status says beside its name. */
export function detail({ status, runtime }: Model, now: number): string {
  if (status.suspended) return 'suspended'
  if (status.state === 'loading') return `${Math.round((status.progress?.value ?? 0) * 100)} %`
  if (status.state === 'backoff' && status.retry_at) return `retry in ${Math.max(0, Math.ceil(status.retry_at - now))} s`
  if (status.queued) return `${status.queued} waiting`
  if (runtime?.in_flight) return `${runtime.in_flight} running`
  return ''
}

/** The name of a conversation: the first line of its first message. */
export function title(text: string): string {
  const line = text.trim().split('\n', 1)[0]!.replace(/^[#>*\-\s]+/, '')
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line || 'New chat'
}
