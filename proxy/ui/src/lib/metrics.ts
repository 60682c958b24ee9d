// Prometheus text → numbers per model. Pure.

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/

export interface Sample {
  labels: Record<string, string>
  value: number
}

/** The samples of one name. */
export function samples(text: string, name: string): Sample[] {
  const found: Sample[] = []
  for (const line of text.split('\n')) {
    const [, metric, labels = '', value] = LINE.exec(line) ?? []
    if (metric !== name || !Number.isFinite(Number(value))) continue
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text!.replace(/\\(.)/g, '$1')])
    found.push({ labels: Object.fromEntries(pairs), value: Number(value) })
  }
  return found
}

/** The sum of one name's samples for each model. */
export function byModel(text: string, name: string): Record<string, number> {
  const found: Record<string, number> = {}
  for (const { labels, value } of samples(text, name)) found[labels.model ?? ''] = (found[labels.model ?? ''] ?? 0) + value
  return found
}

/** A device's memory: bytes that models may take there, and what each takes. */
export interface Device {
  name: string
  budget: number
  parts: { model: string; size: number }[]
}

/** The devices with a budget, the largest part first. */
export function devices(text: string): Device[] {
  const placed = samples(text, 'llama_supervisor_memory_placed_bytes')
  return samples(text, 'llama_supervisor_memory_budget_bytes').map(({ labels, value }) => ({
    name: labels.device ?? '',
    budget: value,
    parts: placed
      .filter((each) => each.labels.device === labels.device && each.value > 0)
      .map((each) => ({ model: each.labels.model ?? '', size: each.value }))
      .sort((a, b) => b.size - a.size),
  }))
}

/** How much each counter has grown; one that fell was started anew. */
export function growth(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after).map(([model, value]) => [model, value >= (before[model] ?? 0) ? value - (before[model] ?? 0) : value]),
  )
}
