import { expect, test } from 'vitest'
import { LogText } from './logtext'

test('lines are whole, clean, and not too many', () => {
  const log = new LogText()
  log.add('one\ntw')
  expect(log.lines).toEqual(['one'])
  log.add('o\n\x1b[31mred\x1b[0m\r\n')
  expect(log.lines).toEqual(['one', 'two', 'red'])
  log.add('x\n'.repeat(6000))
  expect(log.lines).toHaveLength(5000)
})
