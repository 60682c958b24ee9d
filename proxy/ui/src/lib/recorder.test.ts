import { expect, test } from 'vitest'
import { wav } from './recorder'

test('a WAV file has its header and its samples, held to their range', () => {
  const view = new DataView(wav(new Float32Array([0, 1, -2]), 16_000))
  const word = (at: number) => String.fromCharCode(...[0, 1, 2, 3].map((index) => view.getUint8(at + index)))
  expect([word(0), word(8), word(36)]).toEqual(['RIFF', 'WAVE', 'data'])
  expect(view.getUint32(24, true)).toBe(16_000)
  expect(view.getUint32(40, true)).toBe(6)
  expect([44, 46, 48].map((at) => view.getInt16(at, true))).toEqual([0, 32767, -32767])
})
