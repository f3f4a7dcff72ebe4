// Brings the parts of the page that are marked with data-live up to date, every two seconds: the page is asked for again, and
// what differs is put in its place. Focus stays where it is.
const EVERY_MS = 2000
const SILENT_MS = 5000

const parts = () => document.querySelectorAll('[data-live]')
const asOf = document.getElementById('as-of')
const silence = document.getElementById('silence')
const toggle = document.getElementById('live')
let stopped = false
let answeredAt = Date.now()

function put(part, fresh) {
  if (part.innerHTML === fresh.innerHTML) return
  const focused = part.contains(document.activeElement) ? document.activeElement : null
  const links = focused ? [...part.querySelectorAll('a, button, [tabindex]')] : []
  const place = links.indexOf(focused)
  part.innerHTML = fresh.innerHTML
  if (place >= 0) part.querySelectorAll('a, button, [tabindex]')[place]?.focus({ preventScroll: true })
}

async function look() {
  const answer = await fetch(location.href, { headers: { accept: 'text/html' }, redirect: 'error' })
  if (answer.status === 403) {
    stopped = true
    toggle.hidden = true
    silence.textContent = 'This page has ended: the program was started again, or another one has its place.'
    return
  }
  if (!answer.ok) throw new Error(String(answer.status))
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
  for (const part of parts()) {
    const fresh = page.getElementById(part.id)
    if (fresh) put(part, fresh)
  }
  asOf.textContent = page.getElementById('as-of')?.textContent ?? ''
  document.title = page.title
  answeredAt = Date.now()
  if (silence.textContent) silence.textContent = ''
}

async function lookAgain() {
  if (!stopped && !document.hidden) {
    try {
      await look()
    } catch {
      if (Date.now() - answeredAt > SILENT_MS && !silence.textContent)
        silence.textContent = `No answer since ${new Date(answeredAt).toLocaleTimeString('en-GB')}: still waiting for it.`
    }
  }
  setTimeout(lookAgain, EVERY_MS)
}

if (parts().length > 0) {
  toggle.hidden = false
  toggle.addEventListener('click', () => {
    stopped = !stopped
    toggle.textContent = stopped ? 'Go on with the updates' : 'Stop the updates'
  })
  setTimeout(lookAgain, EVERY_MS)
}
