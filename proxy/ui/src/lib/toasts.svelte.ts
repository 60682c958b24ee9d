// Short messages at the edge of the screen, some with a way back.

export interface Toast {
  id: number
  text: string
  action?: { label: string; run: () => void }
}

let next = 0
export const toasts = $state<Toast[]>([])

export function toast(text: string, action?: Toast['action']): void {
  const id = next++
  toasts.push({ id, text, action })
  setTimeout(() => dismiss(id), action ? 8000 : 5000)
}

/** Why something failed. */
export const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Runs it, and tells when it fails, behind `words`. Whether it went well. */
export async function attempt(run: () => Promise<unknown>, words = ''): Promise<boolean> {
  try {
    await run()
    return true
  } catch (error) {
    toast(words + reason(error))
    return false
  }
}

export function dismiss(id: number): void {
  const index = toasts.findIndex((each) => each.id === id)
  if (index >= 0) toasts.splice(index, 1)
}
