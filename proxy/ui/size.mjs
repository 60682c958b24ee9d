// Prints what the pages weigh, gzipped, and fails when a part is over its budget.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

const FIRST = 60_000 // bytes of script that the first page load fetches
const LATER = { render: 170_000, tex: 90_000, pdf: 110_000, Operations: 20_000 } // by the name of the chunk
const ALL = 2_500_000 // bytes of all files, as they are
const root = process.argv[2] ?? new URL('../static', import.meta.url).pathname
const kB = (bytes) => `${(bytes / 1000).toFixed(1)} kB`
const size = (file) => gzipSync(readFileSync(join(root, file)), { level: 9 }).length

const page = readFileSync(join(root, 'index.html'), 'utf8')
const first = [...page.matchAll(/(?:src|href)="\.\/([^"]+\.js)"/g)].map((match) => match[1])
const entry = first.reduce((sum, file) => sum + size(file), 0)
const files = readdirSync(root, { recursive: true }).filter((file) => statSync(join(root, file)).isFile())
const later = files.filter((file) => file.endsWith('.js') && !first.includes(file)).map((file) => [file.replace(/^assets\/|-[\w-]{8}\.js$/g, ''), size(file)])
const all = files.reduce((sum, file) => sum + statSync(join(root, file)).size, 0)

console.log(`first load: ${kB(entry)} of script, gzipped (budget ${kB(FIRST)})`)
console.log(`later: ${later.map(([name, bytes]) => `${name} ${kB(bytes)}`).join(', ')}`)
console.log(`all files: ${kB(all)}`)
const over = later.filter(([name, bytes]) => bytes > (LATER[name] ?? FIRST)).map(([name]) => name)
if (entry > FIRST) over.push('the first load')
if (all > ALL) over.push('all files together')
for (const what of over) console.error(`${what}: over its budget`)
process.exit(over.length ? 1 : 0)
