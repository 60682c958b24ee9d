// Names of models. Pure.

/** "unsloth/Qwen3-8B-GGUF:Q4_K_M" → "unsloth"; "" if the name says none. */
export function publisher(id: string): string {
  const slash = id.indexOf('/')
  return slash > 0 ? id.slice(0, slash) : ''
}

/** Whether a name, its aliases or tags have all these words. */
export function matches(model: { id: string; name?: string; aliases: string[]; tags?: string[] }, words: string): boolean {
  const text = [model.id, model.name ?? '', ...model.aliases, ...(model.tags ?? [])].join(' ').toLowerCase()
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word))
}
