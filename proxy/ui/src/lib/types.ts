// The proxy's JSON, as far as these pages use it, and what they keep themselves.

export type ModelState = 'unloaded' | 'loading' | 'ready' | 'draining' | 'stopping' | 'backoff' | 'failed'

export interface Model {
  id: string
  aliases: string[]
  path: string
  context_length: number
  status: {
    state: ModelState
    since: number // Unix seconds
    queued: number
    restarts: number
    progress?: { value: number }
    retry_at?: number
    message?: string
    cause?: string
    signal?: string
    exit_code?: number | null
    stop_reason?: string
    suspended?: boolean
    log_tail?: string[]
  }
  meta: { n_ctx: number; n_ctx_train: number; n_params: number; size: number; arch: string; ftype: string } | null
  runtime: {
    in_flight: number
    slots: { total: number; busy: number }
    loaded_at: number | null
    pinned: boolean
    load_ms: number | null
    pid?: number | null
  } | null
}

export interface Timings {
  cache_n: number
  prompt_n: number
  prompt_ms: number
  prompt_per_second: number
  predicted_n: number
  predicted_ms: number
  predicted_per_second: number
}

export type Role = 'user' | 'assistant'

export interface Failure {
  message: string
  code: string
}

export interface Message {
  id: string
  convId: string
  parent: string | null
  role: Role
  timestamp: number // milliseconds
  content: string
  reasoningContent: string
  model: string
  timings: Timings | null
  failure: Failure | null
  stopped: boolean
}

export interface Conversation {
  id: string
  name: string
  lastModified: number // milliseconds
  currNode: string | null // the leaf that is shown
  pinned: boolean
}

export const SAMPLING = ['temperature', 'top_p', 'top_k', 'min_p', 'max_tokens', 'seed'] as const
export type SamplingName = (typeof SAMPLING)[number]
export type Sampling = Partial<Record<SamplingName, number>>
