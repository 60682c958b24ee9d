// The proxy's JSON, as far as these pages use it, and what they keep themselves.

export type ModelState = 'unloaded' | 'downloading' | 'loading' | 'ready' | 'draining' | 'stopping' | 'backoff' | 'failed'
export type Modality = 'text' | 'image' | 'audio' | 'video'

export interface Capabilities {
  vision?: boolean
  audio?: boolean
  reasoning?: boolean
  embedding?: boolean
  reranker?: boolean
  function_calling?: boolean
}

export interface Model {
  id: string
  name?: string
  description?: string
  aliases: string[]
  tags?: string[]
  path: string
  source?: string
  can_remove?: boolean
  context_length: number
  capabilities?: Capabilities
  architecture?: { input_modalities?: Modality[] }
  status: {
    state: ModelState
    value?: string
    since: number // Unix seconds
    queued: number
    restarts: number
    progress?: { value: number; current?: string }
    retry_at?: number
    message?: string
    cause?: string
    signal?: string
    exit_code?: number | null
    stop_reason?: string
    suspended?: boolean
    log_tail?: string[]
  }
  meta: {
    n_ctx: number
    n_ctx_train: number
    n_params: number
    n_vocab?: number
    size: number
    arch: string
    ftype: string
    quantization?: string
    file_size?: number
  } | null
  runtime: {
    in_flight: number
    slots: { total: number; busy: number }
    pinned: boolean
    load_ms: number | null
    pid?: number | null
  } | null
  memory?: { estimated?: number | null; vram?: number | null; ram?: number | null; kv?: number | null } | null
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

export interface Death {
  role: string
  model: string | null
  at: number
  generation: number
  pid: number
  uptime_s: number
  phase: string
  exit_code: number
  signal: string | null
  cause: string
  message: string
  requests_lost: number
  log_tail?: string[]
  action: 'restart' | 'failed' | 'none'
}

/** A request that runs or ran; milliseconds count from `since`. */
export interface Asked {
  id: string
  model: string
  endpoint: string
  stream: boolean
  state: string
  since: number // Unix seconds
  key?: string
  queue_position?: number
  queue_ms?: number
  load_ms?: number
  first_ms?: number
  total_ms?: number
  prompt_tokens?: number
  cached_tokens?: number
  generated?: number
  outcome?: string
  status?: number
}

export type Role = 'user' | 'assistant'

export interface Failure {
  message: string
  code: string
}

/** What goes along with a message; the shapes are those of llama-server's pages, so that files move both ways. */
export type Attachment =
  | { type: 'IMAGE'; name: string; base64Url: string }
  | { type: 'TEXT'; name: string; content: string }
  | { type: 'AUDIO'; name: string; base64Data: string; mimeType: string }
  | { type: 'PDF'; name: string; content: string; processedAsImages: boolean; images?: string[] }

export interface Message {
  id: string
  convId: string
  parent: string | null
  role: Role
  timestamp: number // milliseconds
  content: string
  reasoningContent: string
  extra: Attachment[]
  model: string
  timings: Timings | null
  failure: Failure | null
  stopped: boolean
  beside?: string // answers to one question with the same mark are shown side by side
  toolCalls?: unknown // of other programs: kept, and given out again
  finish: string // why the model ended: stop, length, …; "" if it did not say
}

export interface Conversation {
  id: string
  name: string
  lastModified: number // milliseconds
  currNode: string | null // the leaf that is shown
  pinned: boolean
}

export const SAMPLING = [
  'temperature', 'top_p', 'top_k', 'min_p', 'repeat_penalty', 'presence_penalty', 'frequency_penalty', 'max_tokens', 'seed',
] as const // prettier-ignore
export type SamplingName = (typeof SAMPLING)[number]
export type Sampling = Partial<Record<SamplingName, number>>

/** A way to be asked: a system prompt and what goes with each request. */
export interface Preset {
  id: string
  name: string
  system: string
  sampling: Sampling
  custom: string // JSON that goes along as it is
}

export type Thinking = 'auto' | 'off' | 'on' | 'low' | 'medium' | 'high'
