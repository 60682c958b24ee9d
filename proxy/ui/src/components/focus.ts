/** For a field that appears because the reader wants to write: `autofocus` yields to whatever has the focus. */
export function focused(field: HTMLInputElement | HTMLTextAreaElement): void {
  field.focus()
  field.select()
}
