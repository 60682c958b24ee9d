// Cuts Markdown into blocks, so that while text streams in only the last one is parsed again. Knows no parser.

const FENCE = /^\s*(`{3,}|~{3,})/
const FORMULA = /^\s*(\$\$|\\\[)\s*$/ // alone on its line: what follows is one formula
const ITEM = /^\s*(?:[-*+]|\d{1,9}[.)])\s/
const HALF_ITEM = /^\s*(?:[-*+]|\d{1,9}[.)]?)$/ // as far as it has come
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:\s+\S.*$/gm

const PLAIN = /^\s*(?![-*+>|#<$\\]|\d{1,9}[.)]|`{3}|~{3}|\s{4})/
const LONG = 4000 // characters of a paragraph after which the end of a sentence ends it …
const TOO_LONG = 8000 // … and after which any space does: a paragraph is parsed as a whole, each time some of it comes

/** The blocks of a text; joined, they are the text. All but the last stay as they are when more text comes. */
export function blocks(text: string): string[] {
  return cut(text).flatMap(shortened)
}

function shortened(block: string): string[] {
  const found: string[] = []
  while (block.length > LONG && PLAIN.test(block)) {
    const sentence = block.slice(LONG, TOO_LONG).search(/[.!?\n]\s(?=\S)/)
    const space = block.indexOf(' ', TOO_LONG)
    const at = sentence >= 0 ? LONG + sentence + 2 : space >= 0 && space < block.length - 1 ? space + 1 : 0
    if (!at) break
    found.push(block.slice(0, at))
    block = block.slice(at)
  }
  return [...found, block]
}

/** The mark of the code that is open after this line; "" if none is. */
function fenced(fence: string, line: string): string {
  const mark = FENCE.exec(line)?.[1]
  if (!fence) return mark ?? ''
  return mark?.startsWith(fence) && line.trim() === mark ? '' : fence
}

function cut(text: string): string[] {
  const found: string[] = []
  let block: string[] = []
  let fence = ''
  let formula = ''
  let blank = false // the last line was empty, outside of code
  for (const line of text.split(/(?<=\n)/)) {
    if (!fence && !formula && blank && line.trim() && !continues(block, line)) {
      found.push(block.join(''))
      block = []
    }
    fence = fenced(fence, line)
    if (formula) formula = line.trim().endsWith(formula) ? '' : formula
    else if (!fence && FORMULA.test(line)) formula = line.trim() === '$$' ? '$$' : '\\]'
    blank = !fence && !formula && !line.trim()
    block.push(line)
  }
  if (block.length) found.push(block.join(''))
  return found
}

/** Whether a line after an empty one still belongs to the block: the next item or paragraph of a list. */
function continues(block: string[], line: string): boolean {
  const first = block.find((each) => each.trim())
  if (!first) return true // nothing but empty lines so far
  return ITEM.test(first) && (ITEM.test(line) || HALF_ITEM.test(line) || /^(?: {2,}|\t)/.test(line))
}

/** Link definitions, which every block may refer to. */
export function definitions(text: string): string {
  return text.includes(']:') ? (text.match(DEFINITION) ?? []).join('\n') : ''
}

/** Ends a code block that is still open, so that half of it can be shown. */
export function closed(block: string): string {
  const fence = block.split('\n').reduce(fenced, '')
  return fence ? `${block.replace(/\n?$/, '\n')}${fence}` : block
}
