// What the times of a request say. Pure.

import type { Asked } from './types'

/** Tokens a second after the first one; null if that cannot be said. `now` is Unix seconds. */
export function rate({ generated, first_ms, total_ms, since }: Asked, now: number): number | null {
  if (!generated || generated < 2 || first_ms === undefined) return null
  const spent = (total_ms ?? (now - since) * 1000) - first_ms
  return spent > 0 ? ((generated - 1) * 1000) / spent : null
}
