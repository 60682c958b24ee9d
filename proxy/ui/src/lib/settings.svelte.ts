// What the reader has chosen; kept in localStorage.

import type { Sampling } from './types'

export type Theme = 'system' | 'light' | 'dark'

interface Stored {
  theme: Theme
  system: string
  sampling: Sampling
  model: string
  sidebar: boolean
  favourites: string[]
}

const KEY = 'lsv.settings'
const DEFAULTS: Stored = { theme: 'system', system: '', sampling: {}, model: '', sidebar: true, favourites: [] }

function read(): Stored {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? '{}') }
  } catch {
    return { ...DEFAULTS }
  }
}

export const settings = $state(read())

export function saveSettings(): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings))
  } catch {
    // no storage: they last as long as the page
  }
  if (settings.theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = settings.theme
}
