// A conversation is a tree: an edit or another answer is a sibling. What is shown is the path from a root to a leaf.

export interface Node {
  id: string
  parent: string | null
  timestamp: number
}

/** The children of a node, oldest first; of null: the first messages. */
export function children<N extends Node>(nodes: readonly N[], parent: string | null): N[] {
  return nodes.filter((node) => node.parent === parent).sort((a, b) => a.timestamp - b.timestamp)
}

/** From the root down to `leaf`. */
export function path<N extends Node>(nodes: readonly N[], leaf: string | null): N[] {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const found: N[] = []
  for (let node = byId.get(leaf ?? ''); node && !found.includes(node); node = byId.get(node.parent ?? '')) found.push(node)
  return found.reverse()
}

/** The leaf below `id`, by way of the newest child each time. */
export function newestLeaf<N extends Node>(nodes: readonly N[], id: string): string {
  const seen = new Set<string>()
  for (;;) {
    seen.add(id)
    const next = children(nodes, id).at(-1)
    if (!next || seen.has(next.id)) return id
    id = next.id
  }
}

/** Where a node stands among its siblings. */
export function place<N extends Node>(nodes: readonly N[], node: N): { index: number; siblings: N[] } {
  const siblings = children(nodes, node.parent)
  return { index: siblings.findIndex((each) => each.id === node.id), siblings }
}

/** A time later than every sibling's, so that the order of branches is the order of their making. */
export function later(nodes: readonly Node[], now: number): number {
  return nodes.reduce((latest, node) => Math.max(latest, node.timestamp + 1), now)
}

/** A node and all that hangs below it. */
export function below<N extends Node>(nodes: readonly N[], id: string): N[] {
  const found = new Set([id])
  for (let before = 0; before !== found.size; ) {
    before = found.size
    for (const node of nodes) if (node.parent !== null && found.has(node.parent)) found.add(node.id)
  }
  return nodes.filter((node) => found.has(node.id))
}
