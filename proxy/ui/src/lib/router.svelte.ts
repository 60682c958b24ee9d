// #/ is a new chat, #/chat/ID a conversation, #/models, #/activity and #/logs/MODEL are for who runs the box.

export type Page = 'chat' | 'models' | 'activity' | 'logs'
export interface Route {
  page: Page
  id: string // of the conversation, or the model
}

function parse(hash: string): Route {
  const [, page = 'chat', rest = ''] = (/^#\/(models|activity|logs|chat)(?:\/(.*))?$/.exec(hash) ?? []) as [string?, Page?, string?]
  try {
    return { page, id: decodeURIComponent(rest) }
  } catch {
    return { page, id: '' }
  }
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
