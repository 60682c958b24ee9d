// Where mathematics begins and ends in Markdown: $…$, $$…$$, \(…\), \[…\], and environments. `$5` is money. Pure.

export interface Formula {
  raw: string
  tex: string
  display: boolean
}

const ENVIRONMENT = /^\\begin\{(align|alignat|aligned|cases|equation|gather|matrix|[bpvBV]matrix|split)(\*?)\}[\s\S]*?\\end\{\1\2\}/
const DISPLAY = [/^\$\$([\s\S]+?)\$\$/, /^\\\[([\s\S]+?)\\\]/]
const PAREN = /^\\\(([^\n`]+?)\\\)/
const DOLLAR = /^\$((?:\\[^\n]|[^\\$\n`])+)\$(?!\d)/
const SIGNS = /[\\^_={}<>+*/|]/

/** The formula that a block of text begins with, and nothing behind it on its line. */
export function blockAt(text: string): Formula | undefined {
  const found = display(text)
  return found && /^[ \t]*(?:\n|$)/.test(text.slice(found.raw.length)) ? found : undefined
}

/** The formula that a line of text begins with. */
export function inlineAt(text: string): Formula | undefined {
  const shown = display(text)
  if (shown) return shown
  const paren = PAREN.exec(text)
  if (paren?.[1]!.trim()) return { raw: paren[0], tex: paren[1]!.trim(), display: false }
  const dollar = DOLLAR.exec(text)
  return dollar && isMath(dollar[1]!) ? { raw: dollar[0], tex: dollar[1]!.trim(), display: false } : undefined
}

/** Where the next formula may begin; -1 if nowhere. */
export function nextIn(text: string): number {
  return text.search(/\$|\\\(|\\\[|\\begin\{/)
}

function display(text: string): Formula | undefined {
  for (const pattern of DISPLAY) {
    const found = pattern.exec(text)
    if (found?.[1]!.trim() && !/\n[ \t]*\n/.test(found[1]!)) return { raw: found[0], tex: found[1]!.trim(), display: true }
  }
  const found = ENVIRONMENT.exec(text)
  return found ? { raw: found[0], tex: found[0], display: true } : undefined
}

/** Whether what stands between two dollar signs is a formula, and not the words between two prices. */
function isMath(text: string): boolean {
  if (/^\s|\s$/.test(text)) return false
  return !/^[\d.,]+\s/.test(text) || SIGNS.test(text)
}
