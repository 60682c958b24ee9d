// #/ is a new chat, #/chat/ID a conversation, #/models the models.

export type Route = { page: 'chat'; id: string } | { page: 'models' }

function parse(hash: string): Route {
  if (hash === '#/models') return { page: 'models' }
  return { page: 'chat', id: /^#\/chat\/([\w-]+)$/.exec(hash)?.[1] ?? '' }
}

class Router {
  route = $state<Route>(parse(location.hash))
  chat = $derived(this.route.page === 'chat' ? this.route.id : '')

  start(): () => void {
    const follow = (): void => {
      this.route = parse(location.hash)
    }
    addEventListener('hashchange', follow)
    return () => removeEventListener('hashchange', follow)
  }
}

export const router = new Router()

export const go = (id = ''): void => {
  location.hash = id ? `#/chat/${id}` : '#/'
}
