// The requests that run or ran, asked for while somebody looks.

import * as api from './api'
import { attempt, reason } from './toasts.svelte'
import type { Asked } from './types'

class Requests {
  running = $state.raw<Asked[]>([])
  recent = $state.raw<Asked[]>([]) // newest first
  known = $state(false) // the server has answered once
  failed = $state('')
  now = $state(0) // Unix seconds

  async look(): Promise<void> {
    try {
      const { running, recent } = await api.activity()
      this.running = running
      this.recent = recent.toReversed()
      this.known = true
      this.failed = ''
    } catch (error) {
      this.failed = api.missing(error) ? 'This server does not list its requests.' : reason(error)
    }
    this.now = Date.now() / 1000
  }

  async end(id: string): Promise<void> {
    await attempt(() => api.cancel(id))
    await this.look()
  }
}

export const requests = new Requests()
