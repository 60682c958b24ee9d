// What the reader has chosen; kept in localStorage.

import { keep, recall } from './stored'
import type { Preset, Sampling, Thinking } from './types'

export type Theme = 'system' | 'light' | 'dark'

interface Stored {
  theme: Theme
  model: string
  sidebar: boolean
  favourites: string[]
  presets: Preset[] // the first is for models that have no other
  presetOf: Record<string, string> // by model
  thinking: Record<string, Thinking> // by model
  disableAutoScroll: boolean
  showStatistics: boolean
  enableContinueGeneration: boolean
  pdfAsImage: boolean
  pasteLongTextToFileLen: number // characters; 0: never
  autoMicOnEmpty: boolean
}

const KEY = 'lsv.settings'
const STANDARD: Preset = { id: 'standard', name: 'Standard', system: '', sampling: {}, custom: '' }
const DEFAULTS: Stored = {
  theme: 'system',
  model: '',
  sidebar: true,
  favourites: [],
  presets: [],
  presetOf: {},
  thinking: {},
  disableAutoScroll: false,
  showStatistics: true,
  enableContinueGeneration: true,
  pdfAsImage: false,
  pasteLongTextToFileLen: 4000,
  autoMicOnEmpty: false,
}

/** What is stored, an older form included: there, one system prompt and sampling were for all. */
function read(): Stored {
  const found = recall<Partial<Stored> & { system?: string; sampling?: Sampling }>(KEY, {})
  const { system = '', sampling = {}, ...known } = found
  const presets = found.presets?.length ? found.presets : [{ ...STANDARD, system, sampling }]
  return { ...DEFAULTS, ...known, presets }
}

export const settings = $state(read())

export function saveSettings(): void {
  keep(KEY, settings)
  if (settings.theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = settings.theme
}

/** How this model is asked. */
export function presetFor(model: string): Preset {
  return settings.presets.find((preset) => preset.id === settings.presetOf[model]) ?? settings.presets[0]!
}

export const thinkingOf = (model: string): Thinking => settings.thinking[model] ?? 'auto'

// Another tab has changed them.
addEventListener('storage', (event) => {
  if (event.key === KEY) Object.assign(settings, read())
})
