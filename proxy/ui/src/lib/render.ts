// Markdown → safe HTML. Heavy, so it is loaded with the first answer. All text is taken for hostile.

import DOMPurify from 'dompurify'
import hljs from 'highlight.js/lib/common'
import dockerfile from 'highlight.js/lib/languages/dockerfile'
import { Marked, type TokenizerAndRendererExtension } from 'marked'
import { closed } from './markdown'
import { blockAt, inlineAt, nextIn, type Formula } from './math'

hljs.registerLanguage('dockerfile', dockerfile)

const HARMLESS = /^<\/?(?:br|sub|sup|kbd|mark|b|i|u|details|summary)\s*\/?>$/i
const TAGS =
  'a b blockquote br button code del details div em h1 h2 h3 h4 h5 h6 hr i input kbd li mark ol p pre s span strong sub summary sup table tbody td th thead tr u ul'
const ATTRIBUTES = 'align checked class data-copy disabled href rel start target title type'
const LONG = 20_000 // characters; longer code stays without colours
const GUESSED = 4000 // characters of code whose language is looked for
const SURE = 7 // highlight.js's measure of how well a language fits
const ALERT = /^\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\][ \t]*(?:\n|$)/i

export type Typeset = (tex: string, display: boolean) => string

const escape = (text: string): string =>
  text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)

// What the block that is being rendered has come to.
let whole = true
let typeset: Typeset | undefined
let formulas: string[] = []

/** A formula's place; its HTML is put there afterwards, since the sanitizer would take it apart. */
function place({ tex, raw, display }: Formula): string {
  const html = typeset?.(tex, display)
  if (!html) {
    formulas.push('')
    return `<code class="tex">${escape(raw.trim())}</code>`
  }
  formulas.push(html)
  return `<span class="slot">${formulas.length - 1}</span>`
}

const extensions: TokenizerAndRendererExtension[] = [
  {
    name: 'formula',
    level: 'block',
    start: (text) => text.search(/^[ \t]*(?:\$\$|\\\[|\\begin\{)/m),
    tokenizer(text) {
      const found = blockAt(text)
      return found && { type: 'formula', ...found }
    },
    renderer: (token) => `<div class="display">${place(token as unknown as Formula)}</div>`,
  },
  {
    name: 'inlineFormula',
    level: 'inline',
    start: nextIn,
    tokenizer(text) {
      const found = inlineAt(text)
      return found && { type: 'inlineFormula', ...found }
    },
    renderer: (token) => place(token as unknown as Formula),
  },
]

function language(text: string, name: string): string {
  if (name) return hljs.getLanguage(name) && text.length < (whole ? LONG : GUESSED) ? name : ''
  if (!whole || text.length > GUESSED) return '' // while it comes, guesses would change
  const guess = hljs.highlightAuto(text)
  return guess.relevance >= SURE ? (guess.language ?? '') : ''
}

const marked = new Marked({
  gfm: true,
  breaks: true,
  extensions,
  renderer: {
    code({ text, lang }) {
      const name = (lang ?? '').trim().split(/\s+/)[0]!
      const known = language(text, name)
      const body = known ? hljs.highlight(text, { language: known, ignoreIllegals: true }).value : escape(text)
      const head = `<span>${escape(name || known) || 'text'}</span><button type="button" data-copy="">Copy</button>`
      return `<div class="code"><div class="code-head">${head}</div><pre><code>${body}</code></pre></div>`
    },
    table(token) {
      const row = (cells: typeof token.header, tag: string): string =>
        `<tr>${cells.map((cell) => `<${tag}${cell.align ? ` align="${cell.align}"` : ''}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join('')}</tr>`
      const body = token.rows.map((cells) => row(cells, 'td')).join('')
      return `<div class="table"><table><thead>${row(token.header, 'th')}</thead><tbody>${body}</tbody></table></div>`
    },
    blockquote({ text, tokens }) {
      const kind = ALERT.exec(text)
      if (!kind) return `<blockquote>${this.parser.parse(tokens)}</blockquote>`
      const name = kind[1]!.toLowerCase()
      const body = this.parser.parse(marked.lexer(text.slice(kind[0].length)))
      return `<blockquote class="alert ${name}"><p class="alert-name">${name[0]!.toUpperCase()}${name.slice(1)}</p>${body}</blockquote>`
    },
    // A picture from elsewhere would tell that site who reads this.
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || 'image')}</a>`,
    html: ({ text }) => (HARMLESS.test(text.trim()) ? text : escape(text)),
  },
})

DOMPurify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') {
    node.setAttribute('target', '_blank')
    node.setAttribute('rel', 'noopener noreferrer nofollow')
  }
})

/** The HTML of one block, and whether it has formulas; `definitions` are the links that it may refer to. */
export function render(block: string, definitions = '', setter?: Typeset): { html: string; math: boolean } {
  const text = closed(block)
  whole = text === block
  typeset = setter
  formulas = []
  const html = marked.parse(definitions ? `${text}\n\n${definitions}` : text, { async: false })
  const safe = clean(html)
  return { html: safe.replace(/<span class="slot">(\d+)<\/span>/g, (_, index) => formulas[index] ?? ''), math: formulas.length > 0 }
}

function clean(html: string): string {
  return DOMPurify.sanitize(html, { ALLOWED_TAGS: TAGS.split(' '), ALLOWED_ATTR: ATTRIBUTES.split(' '), ALLOW_DATA_ATTR: false })
}
