// Before the first paint, so that no other theme flashes up.
try {
  var theme = JSON.parse(localStorage.getItem('lsv.settings') || '{}').theme
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch (error) {
  // no storage: the system's theme
}
