// Formulas → HTML. Loaded with the first formula.

import DOMPurify from 'dompurify'
import katex from 'katex'
import 'katex/dist/katex.min.css'

const LIMITS = { throwOnError: true, trust: false, strict: 'ignore', maxSize: 20, maxExpand: 300 } as const
const MOST = 500
const known = new Map<string, string>() // while a block streams in, its formulas are asked for again and again

/** The HTML of a formula; "" if it is none. Its inline styles are in data-style: the page's policy allows no others. */
export function typeset(tex: string, display: boolean): string {
  const key = `${display}${tex}`
  let html = known.get(key)
  if (html === undefined) {
    if (known.size > MOST) known.clear()
    known.set(key, (html = made(tex, display)))
  }
  return html
}

function made(tex: string, display: boolean): string {
  try {
    const html = katex.renderToString(tex, { ...LIMITS, displayMode: display })
    return DOMPurify.sanitize(html.replace(/ style="/g, ' data-style="'), {
      USE_PROFILES: { html: true, mathMl: true, svg: true },
      ADD_TAGS: ['semantics', 'annotation'],
      ADD_ATTR: ['data-style', 'encoding'],
      ADD_URI_SAFE_ATTR: ['data-style'],
      ALLOW_DATA_ATTR: false,
    })
  } catch {
    return ''
  }
}
