// Prometheus text → numbers per model. Pure.

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/

/** The samples of one name, by the label `model`. */
export function samples(text: string, name: string): Record<string, number> {
  const found: Record<string, number> = {}
  for (const line of text.split('\n')) {
    const [, metric, labels = '', value] = LINE.exec(line) ?? []
    if (metric !== name || !Number.isFinite(Number(value))) continue
    const model = /(?:^|,)model="((?:[^"\\]|\\.)*)"/.exec(labels)?.[1] ?? ''
    found[model] = (found[model] ?? 0) + Number(value)
  }
  return found
}

/** How much all counters have grown; one that fell was started anew. */
export function growth(before: Record<string, number>, after: Record<string, number>): number {
  return Object.entries(after).reduce((sum, [model, value]) => sum + Math.max(0, value >= (before[model] ?? 0) ? value - (before[model] ?? 0) : value), 0)
}
