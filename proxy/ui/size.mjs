// Prints what the first page load fetches as script, and fails when it is over the budget.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

const BUDGET = 60_000 // bytes, gzipped
const root = process.argv[2] ?? new URL('../static', import.meta.url).pathname
const kB = (bytes) => `${(bytes / 1000).toFixed(1)} kB`
const size = (file) => gzipSync(readFileSync(join(root, file)), { level: 9 }).length

const page = readFileSync(join(root, 'index.html'), 'utf8')
const first = [...page.matchAll(/(?:src|href)="\.\/([^"]+\.js)"/g)].map((match) => match[1])
const entry = first.reduce((sum, file) => sum + size(file), 0)
const files = readdirSync(root, { recursive: true }).filter((file) => statSync(join(root, file)).isFile())
const later = files.filter((file) => file.endsWith('.js') && !first.includes(file))
const all = files.reduce((sum, file) => sum + statSync(join(root, file)).size, 0)

console.log(`first load: ${kB(entry)} of script, gzipped (budget ${kB(BUDGET)})`)
console.log(`later: ${later.map((file) => `${file.replace(/^assets\//, '')} ${kB(size(file))}`).join(', ')}`)
console.log(`all files: ${kB(all)}`)
if (entry > BUDGET) {
  console.error('the first load is over its budget')
  process.exit(1)
}
