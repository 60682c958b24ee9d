// Downloads from the hub: what was paused is remembered here, since the server lists only what is there or comes.

import * as api from './api'
import { models } from './models.svelte'
import { toast } from './toasts.svelte'

const KEY = 'lsv.pulls'

export interface Part {
  done: number
  total: number
}

function stored(): Record<string, Part> {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? '{}')
  } catch {
    return {}
  }
}

class Pulls {
  #paused = $state<Record<string, Part>>(stored())

  /** Those that do not run and whose files are not there. */
  get paused(): [string, Part][] {
    return Object.entries(this.#paused).filter(([id]) => !models.get(id))
  }

  /** How far a download is; undefined before the hub has said how large it is. */
  part(id: string): Part | undefined {
    const files = Object.values((models.get(id)?.status.progress ?? {}) as Record<string, Part>).filter((file) => file?.total)
    const listed = files.reduce((sum, file) => ({ done: sum.done + file.done, total: sum.total + file.total }), { done: 0, total: 0 })
    const told = models.downloads[id]
    const found = told && told.total >= listed.total && told.done >= listed.done ? told : listed
    return found.total ? found : undefined
  }

  async pause(id: string): Promise<void> {
    this.#paused[id] = this.part(id) ?? { done: 0, total: 0 }
    this.#keep()
    await models.unload(id)
  }

  async goOn(id: string): Promise<void> {
    await models.pull(id)
    if (models.get(id)) this.#forget(id)
  }

  /** Ends a download, and deletes what is there of it. */
  async discard(id: string): Promise<void> {
    try {
      if (!models.get(id)) await api.pull(id) // what was paused is nobody's until it is asked for
      await api.remove(id)
      this.#forget(id)
    } catch (error) {
      toast(error instanceof Error ? error.message : String(error))
    }
    await models.refresh()
  }

  #forget(id: string): void {
    delete this.#paused[id]
    this.#keep()
  }

  #keep(): void {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#paused))
    } catch {
      // no room: forgotten with the page
    }
  }
}

export const pulls = new Pulls()
