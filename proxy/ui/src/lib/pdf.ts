// PDF → text, and pictures of its pages. Loaded with the first one.

import { getDocument, GlobalWorkerOptions, type PDFDocumentProxy } from 'pdfjs-dist'
import worker from 'pdfjs-dist/build/pdf.worker.min.mjs?url'
import { text } from './attachments'
import type { Attachment } from './types'

GlobalWorkerOptions.workerSrc = worker

const WIDTH = 1240 // pixels: what can still be read
const PAGES = 40 // as pictures; a model takes no more anyway

/** A PDF's words, and if asked for, its pages. Throws an Error that says why it cannot be read. */
export async function read(file: File, asImages: boolean): Promise<Attachment> {
  const { name } = file
  let pdf
  try {
    pdf = await getDocument({ data: await file.arrayBuffer(), isEvalSupported: false }).promise
  } catch (error) {
    throw new Error(`${name} cannot be read: ${error instanceof Error ? error.message : error}`)
  }
  try {
    const content = text(await words(pdf), name)
    if (!asImages) return { type: 'PDF', name, content, processedAsImages: false }
    return { type: 'PDF', name, content, processedAsImages: true, images: await pictures(pdf) }
  } finally {
    void pdf.destroy()
  }
}

async function words(pdf: PDFDocumentProxy): Promise<string> {
  const pages = []
  for (let number = 1; number <= pdf.numPages; number++) {
    const { items } = await (await pdf.getPage(number)).getTextContent()
    pages.push(items.map((item) => ('str' in item ? item.str + (item.hasEOL ? '\n' : '') : '')).join(''))
  }
  return pages.join('\n\n').trim()
}

async function pictures(pdf: PDFDocumentProxy): Promise<string[]> {
  const found = []
  for (let number = 1; number <= Math.min(PAGES, pdf.numPages); number++) {
    const page = await pdf.getPage(number)
    const viewport = page.getViewport({ scale: WIDTH / page.getViewport({ scale: 1 }).width })
    const canvas = document.createElement('canvas')
    canvas.width = Math.round(viewport.width)
    canvas.height = Math.round(viewport.height)
    await page.render({ canvas, canvasContext: canvas.getContext('2d')!, viewport }).promise
    found.push(canvas.toDataURL('image/jpeg', 0.85))
  }
  return found
}
