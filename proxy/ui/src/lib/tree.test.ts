import { expect, test } from 'vitest'
import { below, children, later, newestLeaf, path, place } from './tree'

const node = (id: string, parent: string | null, timestamp: number) => ({ id, parent, timestamp })
//  q1 ─ a1 ─ q2 ─ a2        q1' (an edit) ─ b1
//   └── a1' (asked again)
const TREE = [
  node('b1', "q1'", 6),
  node('q1', null, 1),
  node("a1'", 'q1', 7),
  node('a1', 'q1', 2),
  node('q2', 'a1', 3),
  node('a2', 'q2', 4),
  node("q1'", null, 5),
]
const ids = (nodes: { id: string }[]) => nodes.map((each) => each.id)

test('the path leads from the root to the leaf', () => {
  expect(ids(path(TREE, 'a2'))).toEqual(['q1', 'a1', 'q2', 'a2'])
  expect(ids(path(TREE, 'b1'))).toEqual(["q1'", 'b1'])
  expect(path(TREE, null)).toEqual([])
  expect(path(TREE, 'gone')).toEqual([])
})

test('siblings are in the order of their making', () => {
  expect(ids(children(TREE, 'q1'))).toEqual(['a1', "a1'"])
  expect(place(TREE, TREE[6]!)).toMatchObject({ index: 1, siblings: [{ id: 'q1' }, { id: "q1'" }] })
})

test('a branch is entered at its newest leaf', () => {
  expect(newestLeaf(TREE, 'q1')).toBe("a1'")
  expect(newestLeaf(TREE, 'a1')).toBe('a2')
  expect(newestLeaf(TREE, 'b1')).toBe('b1')
})

test('a loop in damaged data ends', () => {
  const loop = [node('x', 'y', 1), node('y', 'x', 2)]
  expect(ids(path(loop, 'x'))).toEqual(['y', 'x'])
  expect(newestLeaf(loop, 'x')).toBe('y')
})

test('a new message is later than all others even when the clock has gone back', () => {
  expect(later(TREE, 3)).toBe(8)
  expect(later(TREE, 100)).toBe(100)
})

test('what hangs below a node', () => {
  expect(ids(below(TREE, 'q1')).sort()).toEqual(['a1', "a1'", 'a2', 'q1', 'q2'])
  expect(ids(below(TREE, 'a2'))).toEqual(['a2'])
  expect(below([node('x', 'y', 1), node('y', 'x', 2)], 'x')).toHaveLength(2)
})
