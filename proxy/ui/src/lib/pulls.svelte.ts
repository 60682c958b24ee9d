// Downloads from the hub: what was paused is remembered here, since the server lists only what is there or comes.

import * as api from './api'
import { models } from './models.svelte'
import { keep, recall } from './stored'
import { attempt } from './toasts.svelte'

const KEY = 'lsv.pulls'

export interface Part {
  done: number
  total: number
}

class Pulls {
  #paused = $state<Record<string, Part>>(recall(KEY, {}))

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
    keep(KEY, this.#paused)
    await models.unload(id)
  }

  async goOn(id: string): Promise<void> {
    await models.pull(id)
    if (models.get(id)) this.#forget(id)
  }

  /** Ends a download, and deletes what is there of it. */
  async discard(id: string): Promise<void> {
    await attempt(async () => {
      if (!models.get(id)) await api.pull(id) // what was paused is nobody's until it is asked for
      await api.remove(id)
      this.#forget(id)
    })
    await models.refresh()
  }

  #forget(id: string): void {
    delete this.#paused[id]
    keep(KEY, this.#paused)
  }
}

export const pulls = new Pulls()
