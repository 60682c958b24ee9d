// What the reader has begun to write, by conversation. Text outlives the page; files live as long as it does.

import { attach } from './attachments'
import { settings } from './settings.svelte'
import { attempt } from './toasts.svelte'
import type { Attachment } from './types'

const KEY = 'lsv.draft.'

class Drafts {
  extra = $state<Record<string, Attachment[]>>({})
  reading = $state(0) // files that are being read

  text = (id: string): string => localStorage.getItem(KEY + id) ?? ''

  keep(id: string, text: string): void {
    try {
      if (text) localStorage.setItem(KEY + id, text)
      else localStorage.removeItem(KEY + id)
    } catch {
      // no room: it stays in the field
    }
  }

  files = (id: string): Attachment[] => this.extra[id] ?? []

  /** Takes in files; says of each that cannot be sent why. */
  async add(id: string, files: Iterable<File>): Promise<void> {
    for (const file of files) {
      this.reading++
      await attempt(async () => {
        const found = await attach(file, settings.pdfAsImage)
        this.extra[id] = [...this.files(id), found]
      })
      this.reading--
    }
  }

  drop(id: string, index: number): void {
    this.extra[id] = this.files(id).filter((_, each) => each !== index)
  }

  giveBack(id: string, extra: Attachment[]): void {
    if (extra.length) this.extra[id] = [...extra, ...this.files(id)]
  }

  /** What goes along; the draft is empty then. */
  take(id: string): Attachment[] {
    const found = $state.snapshot(this.files(id)) as Attachment[]
    delete this.extra[id]
    this.keep(id, '')
    return found
  }
}

export const drafts = new Drafts()
