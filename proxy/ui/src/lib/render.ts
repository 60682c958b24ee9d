// Markdown → safe HTML. Heavy, so it is loaded with the first answer. All text is taken for hostile.

import DOMPurify from 'dompurify'
import hljs from 'highlight.js/lib/core'
import bash from 'highlight.js/lib/languages/bash'
import c from 'highlight.js/lib/languages/c'
import cpp from 'highlight.js/lib/languages/cpp'
import csharp from 'highlight.js/lib/languages/csharp'
import css from 'highlight.js/lib/languages/css'
import diff from 'highlight.js/lib/languages/diff'
import go from 'highlight.js/lib/languages/go'
import ini from 'highlight.js/lib/languages/ini'
import java from 'highlight.js/lib/languages/java'
import javascript from 'highlight.js/lib/languages/javascript'
import json from 'highlight.js/lib/languages/json'
import python from 'highlight.js/lib/languages/python'
import rust from 'highlight.js/lib/languages/rust'
import sql from 'highlight.js/lib/languages/sql'
import typescript from 'highlight.js/lib/languages/typescript'
import xml from 'highlight.js/lib/languages/xml'
import yaml from 'highlight.js/lib/languages/yaml'
import { Marked } from 'marked'
import { closed } from './markdown'

const LANGUAGES = { bash, c, cpp, csharp, css, diff, go, ini, java, javascript, json, python, rust, sql, typescript, xml, yaml }
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language)

const HARMLESS = /^<\/?(?:br|sub|sup|kbd|mark|b|i|u|details|summary)\s*\/?>$/i
const TAGS =
  'a b blockquote br button code del details div em h1 h2 h3 h4 h5 h6 hr i input kbd li mark ol p pre s span strong sub summary sup table tbody td th thead tr u ul'
const ATTRIBUTES = 'align checked class data-copy disabled href rel start target title type'
const LONG = 20_000 // characters; longer code stays without colours

const escape = (text: string): string =>
  text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    code({ text, lang }) {
      const name = (lang ?? '').trim().split(/\s+/)[0]!
      const known = name && hljs.getLanguage(name) && text.length < LONG
      const body = known ? hljs.highlight(text, { language: name, ignoreIllegals: true }).value : escape(text)
      const head = `<span>${escape(name) || 'text'}</span><button type="button" data-copy="">Copy</button>`
      return `<div class="code"><div class="code-head">${head}</div><pre><code>${body}</code></pre></div>`
    },
    table(token) {
      const row = (cells: typeof token.header, tag: string): string =>
        `<tr>${cells.map((cell) => `<${tag}${cell.align ? ` align="${cell.align}"` : ''}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join('')}</tr>`
      const body = token.rows.map((cells) => row(cells, 'td')).join('')
      return `<div class="table"><table><thead>${row(token.header, 'th')}</thead><tbody>${body}</tbody></table></div>`
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

/** The HTML of one block; `definitions` are the links that it may refer to. */
export function render(block: string, definitions = ''): string {
  const html = marked.parse(definitions ? `${closed(block)}\n\n${definitions}` : closed(block), { async: false })
  return DOMPurify.sanitize(html, { ALLOWED_TAGS: TAGS.split(' '), ALLOWED_ATTR: ATTRIBUTES.split(' '), ALLOW_DATA_ATTR: false })
}
