// The typesetter of formulas, once there is one to set.

type Typeset = typeof import('./tex').typeset

class Typesetter {
  run = $state.raw<Typeset>()
  #loading = false

  load(): void {
    if (this.#loading) return
    this.#loading = true
    import('./tex').then(
      (found) => (this.run = found.typeset),
      () => (this.#loading = false),
    )
  }
}

export const typesetter = new Typesetter()
