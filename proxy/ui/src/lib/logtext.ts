// Text that comes in pieces → its last lines, without terminal codes. Pure.

const MOST = 5000 // lines
// eslint-disable-next-line no-control-regex
const CODES = /\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]/g

export class LogText {
  lines: string[] = []
  #rest = ''

  add(piece: string): void {
    const parts = (this.#rest + piece).split('\n')
    this.#rest = parts.pop()!
    if (parts.length) this.lines = [...this.lines, ...parts.map((line) => line.replace(CODES, ''))].slice(-MOST)
  }
}
