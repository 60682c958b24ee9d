// What this browser keeps beside the chats. Where it keeps nothing, things last as long as the page.

/** What is kept under a name; `otherwise`, if nothing readable is. */
export function recall<T>(name: string, otherwise: T, store = localStorage): T {
  try {
    return JSON.parse(store.getItem(name) ?? '') as T
  } catch {
    return otherwise
  }
}

/** Keeps a value under a name; undefined: nothing. */
export function keep(name: string, value: unknown, store = localStorage): void {
  try {
    if (value === undefined) store.removeItem(name)
    else store.setItem(name, JSON.stringify(value))
  } catch {
    // no room
  }
}
