// A conversation as the first version of the pages stored it.
() => new Promise((resolve, reject) => {
  const asked = indexedDB.open(`llama-supervisor ${new URL('.', location.href).pathname}`, 1)
  asked.onupgradeneeded = () => {
    asked.result.createObjectStore('conversations', { keyPath: 'id' })
    asked.result.createObjectStore('messages', { keyPath: 'id' }).createIndex('convId', 'convId')
  }
  asked.onerror = () => reject(asked.error)
  asked.onsuccess = () => {
    const write = asked.result.transaction(['conversations', 'messages'], 'readwrite')
    write.objectStore('conversations').put({ id: 'c1', name: 'Old', lastModified: 1, currNode: 'm2', pinned: false })
    const message = { convId: 'c1', reasoningContent: '', model: 'a', timings: null, failure: null, stopped: false }
    write.objectStore('messages').put({ ...message, id: 'm1', parent: null, role: 'user', timestamp: 1, content: 'a question' })
    write.objectStore('messages').put({ ...message, id: 'm2', parent: 'm1', role: 'assistant', timestamp: 2, content: 'an old answer' })
    write.oncomplete = () => (asked.result.close(), resolve())
  }
})
